//! The JSON Schema (draft 2020-12) of the configuration, made from the table of keys, so that editors can complete and
//! check a file while it is written. The relay itself checks by the table, not by this.
//!
//! Every scalar may also be a text with a variable in it, which the schema has to let through.

use serde_json::{Map, Value, json};

use super::keys::{self, Absent, Key, Kind, Section};

/// A text with at least one `${…}` in it.
const VARIABLE: &str = r"\$\{[^}]+\}";
/// A source's or target's name.
const NAME: &str = "^[a-z0-9_-]{1,40}$";

/// The URL of a store.
const STORE: &str = r"^(sqlite:.|rediss?(\+cluster|\+sentinel)?://.|redis\+unix://.)";

/// The whole schema.
pub fn schema() -> Value {
    let mut root = section(Section::Top);
    root.insert("$schema".into(), json!("https://json-schema.org/draft/2020-12/schema"));
    root.insert("title".into(), json!("clerk-relay configuration"));
    let definitions: Map<String, Value> = Section::ALL
        .into_iter()
        .filter(|&section| section != Section::Top)
        .map(|below| (definition(below).to_owned(), Value::Object(section(below))))
        .collect();
    root.insert("$defs".into(), Value::Object(definitions));
    Value::Object(root)
}

fn definition(section: Section) -> &'static str {
    match section {
        Section::Top => "top",
        Section::Source => "source",
        Section::Target => "target",
        Section::Retry => "retry",
        Section::Breaker => "breaker",
        Section::Store => "store",
        Section::Tls => "tls",
        Section::Admin => "admin",
        Section::Token => "token",
        Section::Log => "log",
        Section::Limits => "limits",
    }
}

fn section(section: Section) -> Map<String, Value> {
    let properties: Map<String, Value> =
        keys::of(section).map(|key| (key.name.to_owned(), property(key))).collect();
    let required: Vec<&str> =
        keys::of(section).filter(|key| key.absent == Absent::Required).map(|key| key.name).collect();
    let mut object = Map::new();
    object.insert("type".into(), json!("object"));
    object.insert("additionalProperties".into(), json!(false));
    object.insert("properties".into(), Value::Object(properties));
    if !required.is_empty() {
        object.insert("required".into(), json!(required));
    }
    if section == Section::Token {
        object.insert("oneOf".into(), json!([{"required": ["token"]}, {"required": ["sha256"]}]));
    }
    if section == Section::Tls {
        object.insert(
            "dependentRequired".into(),
            json!({"cert_file": ["key_file"], "key_file": ["cert_file"]}),
        );
    }
    if section == Section::Target {
        object.insert("not".into(), json!({"required": ["signing_secret", "signing_secrets"]}));
    }
    object
}

fn property(key: &Key) -> Value {
    let mut property = kind(&key.kind);
    property.insert("description".into(), json!(format!("{} Takes {}.", key.doc, key.kind.accepted())));
    match key.absent {
        Absent::Value(text) => drop(property.insert("default".into(), literal(&key.kind, text))),
        Absent::Told(words) => {
            property.insert("description".into(), json!(format!("{} Default: {words}.", key.doc)));
        }
        Absent::Required => {}
    }
    Value::Object(property)
}

/// A default in the type that people would write it in.
fn literal(kind: &Kind, text: &str) -> Value {
    let is_number = matches!(kind, Kind::Count { .. } | Kind::Number { .. });
    text.parse::<serde_json::Number>().ok().filter(|_| is_number).map_or_else(|| json!(text), Value::Number)
}

fn kind(kind: &Kind) -> Map<String, Value> {
    let text = || json!({"type": "string", "minLength": 1});
    let list = |of: Value| json!({"type": "array", "items": of});
    let schema = match kind {
        Kind::Text
        | Kind::Address
        | Kind::Url
        | Kind::ProxyUrl
        | Kind::PemFile
        | Kind::PemKeyFile
        | Kind::SigningSecret
        | Kind::Token
        | Kind::TokenSha256 => text(),
        Kind::Name => or_variable(&[json!({"type": "string", "pattern": NAME})]),
        Kind::Path => or_variable(&[json!({"type": "string", "pattern": "^/"})]),
        Kind::StoreUrl => or_variable(&[json!({"type": "string", "pattern": STORE})]),
        Kind::Duration { .. } => {
            or_variable(&[json!({"type": "string", "pattern": "[0-9]"}), json!({"const": 0})])
        }
        Kind::Size { .. } => or_variable(&[
            json!({"type": "string", "pattern": "^[0-9]"}),
            json!({"type": "integer", "minimum": 0}),
        ]),
        Kind::Count { min, max } => {
            or_variable(&[json!({"type": "integer", "minimum": min, "maximum": max})])
        }
        Kind::Number { min, max } => {
            or_variable(&[json!({"type": "number", "minimum": min, "maximum": max})])
        }
        Kind::Choice(words) => or_variable(&[json!({"enum": words})]),
        Kind::SigningSecrets => json!({"type": "array", "items": text(), "minItems": 1}),
        Kind::Patterns | Kind::Networks | Kind::SourceNames => list(text()),
        Kind::Headers => {
            json!({"type": "object", "additionalProperties": {"type": ["string", "number", "boolean"]}})
        }
        Kind::Expiries { .. } => {
            let after = or_variable(&[json!({"type": "string", "minLength": 1}), json!({"const": 0})]);
            json!({"type": ["object", "null"], "additionalProperties": after})
        }
        Kind::One(below) => nullable(&json!({"$ref": reference(*below)})),
        Kind::OneOrOff(below) => or_variable(&[
            json!({"$ref": reference(*below)}),
            json!({"enum": ["off", false]}), // older editors read `off` as a boolean
            json!({"type": "null"}),
        ]),
        Kind::Named(below) => nullable(&json!({
            "type": "object",
            "propertyNames": {"pattern": NAME},
            "additionalProperties": {"$ref": reference(*below)},
        })),
        Kind::Many(below) => nullable(&list(json!({"$ref": reference(*below)}))),
    };
    match schema {
        Value::Object(object) => object,
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => Map::new(),
    }
}

fn reference(section: Section) -> String {
    format!("#/$defs/{}", definition(section))
}

fn or_variable(forms: &[Value]) -> Value {
    let mut any_of = forms.to_vec();
    any_of.push(json!({"type": "string", "pattern": VARIABLE}));
    json!({ "anyOf": any_of })
}

/// A section may stand there with all its keys commented out.
fn nullable(form: &Value) -> Value {
    json!({"anyOf": [form, {"type": "null"}]})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_is_in_the_schema_with_its_description() {
        let schema = schema();
        for key in keys::KEYS {
            let below = &schema["$defs"][definition(key.section)];
            let place = if key.section == Section::Top { &schema } else { below };
            let property = &place["properties"][key.name];
            assert!(
                property["description"].as_str().is_some_and(|text| text.contains(key.doc)),
                "{}",
                key.name
            );
            assert_eq!(place["additionalProperties"], json!(false));
            if let Absent::Value(text) = key.absent {
                assert_eq!(property["default"].to_string().trim_matches('"'), text, "{}", key.name);
            }
        }
    }

    #[test]
    fn every_reference_leads_somewhere() {
        fn walk(value: &Value, found: &mut Vec<String>) {
            if let Some(reference) = value.get("$ref").and_then(Value::as_str) {
                found.push(reference.trim_start_matches('#').to_owned());
            }
            match value {
                Value::Object(object) => object.values().for_each(|inner| walk(inner, found)),
                Value::Array(list) => list.iter().for_each(|inner| walk(inner, found)),
                Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
            }
        }
        let schema = schema();
        let mut found = Vec::new();
        walk(&schema, &mut found);
        assert!(found.len() >= 8);
        assert!(found.iter().all(|pointer| schema.pointer(pointer).is_some()), "{found:?}");
    }
}
