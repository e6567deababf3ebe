//! Reads the few facts that the relay needs out of a payload: type, subject, instance. One pass, no tree, nothing
//! strict: a field of another shape is simply absent, the last of two equal keys counts (as in `JSON.parse`), and a
//! body that is not JSON has no facts. The body itself is never changed.

use std::borrow::Cow;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::Subject;

/// What a payload tells about itself.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// `type`, where it is text and not empty.
    pub event_type: Option<String>,
    /// Who the event is about.
    pub subject: Option<Subject>,
    /// `instance_id`, where it is text and not empty.
    pub instance_id: Option<String>,
}

/// The facts of `body`.
pub fn scan(body: &[u8]) -> Facts {
    let mut found = Found::default();
    let mut json = serde_json::Deserializer::from_slice(body);
    if Place::Root.with(&mut found).deserialize(&mut json).is_err() || json.end().is_err() {
        return Facts::default();
    }
    let subject = found.subject();
    Facts { event_type: filled(found.event_type), instance_id: filled(found.instance_id), subject }
}

/// The objects on the way to the wanted fields.
#[derive(Clone, Copy)]
enum Place {
    Root,
    Data,
    User,
    Organization,
    PublicUserData,
    Payer,
}

#[derive(Default)]
struct Found {
    event_type: Option<String>,
    instance_id: Option<String>,
    id: Option<String>,
    user_id: Option<String>,
    nested_user_id: Option<String>,
    organization_id: Option<String>,
    nested_organization_id: Option<String>,
    member_user_id: Option<String>,
    payer_user_id: Option<String>,
    payer_organization_id: Option<String>,
    email_address: Option<String>,
}

impl Found {
    /// User id, else organization id, else `data.id`; in that order for each family of types, without the ids of mere
    /// actors (who created an organization, who sent an invitation).
    fn subject(&mut self) -> Option<Subject> {
        let family = self.event_type.as_deref().and_then(|t| t.split('.').next()).unwrap_or_default();
        let candidates = match family {
            "user" | "organization" | "role" | "permission" => [self.id.take(), None, None, None, None, None],
            "waitlistEntry" | "invitation" => {
                [self.email_address.take(), self.id.take(), None, None, None, None]
            }
            _ => [
                self.user_id.take().or_else(|| filled(self.nested_user_id.take())),
                self.member_user_id.take(),
                self.payer_user_id.take(),
                self.organization_id.take().or_else(|| filled(self.nested_organization_id.take())),
                self.payer_organization_id.take(),
                self.id.take(),
            ],
        };
        candidates.into_iter().find_map(|text| Subject::of(&filled(text)?))
    }

    fn slot(&mut self, place: Place, key: &str) -> Option<&mut Option<String>> {
        match (place, key) {
            (Place::Root, "type") => Some(&mut self.event_type),
            (Place::Root, "instance_id") => Some(&mut self.instance_id),
            (Place::Data, "id") => Some(&mut self.id),
            (Place::Data, "user_id") => Some(&mut self.user_id),
            (Place::Data, "organization_id") => Some(&mut self.organization_id),
            (Place::Data, "email_address") => Some(&mut self.email_address),
            (Place::User, "id") => Some(&mut self.nested_user_id),
            (Place::Organization, "id") => Some(&mut self.nested_organization_id),
            (Place::PublicUserData, "user_id") => Some(&mut self.member_user_id),
            (Place::Payer, "user_id") => Some(&mut self.payer_user_id),
            (Place::Payer, "organization_id") => Some(&mut self.payer_organization_id),
            _ => None,
        }
    }
}

fn filled(text: Option<String>) -> Option<String> {
    text.filter(|text| !text.is_empty())
}

impl Place {
    fn with(self, found: &mut Found) -> Object<'_> {
        Object { place: self, found }
    }

    fn inner(self, key: &str) -> Option<Self> {
        match (self, key) {
            (Self::Root, "data") => Some(Self::Data),
            (Self::Data, "user") => Some(Self::User),
            (Self::Data, "organization") => Some(Self::Organization),
            (Self::Data, "public_user_data") => Some(Self::PublicUserData),
            (Self::Data, "payer") => Some(Self::Payer),
            _ => None,
        }
    }
}

/// Walks one object and puts what is wanted into `found`; anything else than an object is skipped.
struct Object<'f> {
    place: Place,
    found: &'f mut Found,
}

impl<'de> DeserializeSeed<'de> for Object<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<(), D::Error> {
        json.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Object<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key_seed(Text)? {
            let key = key.unwrap_or_default();
            if let Some(inner) = self.place.inner(&key) {
                map.next_value_seed(inner.with(self.found))?;
            } else if let Some(slot) = self.found.slot(self.place, &key) {
                *slot = map.next_value_seed(Text)?.map(Cow::into_owned);
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<(), A::Error> {
        skip_seq(seq)
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }
}

/// Text, or `None` for anything else; borrowed from the body where it holds no escapes.
struct Text;

impl<'de> DeserializeSeed<'de> for Text {
    type Value = Option<Cow<'de, str>>;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<Self::Value, D::Error> {
        json.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Text {
    type Value = Option<Cow<'de, str>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON")
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(Some(Cow::Borrowed(text)))
    }

    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Some(Cow::Owned(text.to_owned())))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(None)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Self::Value, A::Error> {
        skip_seq(seq).map(|()| None)
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
        Ok(None)
    }
}

fn skip_seq<'de, A: SeqAccess<'de>>(mut seq: A) -> Result<(), A::Error> {
    while seq.next_element::<IgnoredAny>()?.is_some() {}
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subject(body: &str) -> Option<String> {
        scan(body.as_bytes()).subject.map(|s| s.as_str().to_owned())
    }

    #[test]
    fn the_subject_is_the_user_else_the_organization_else_the_object() {
        assert_eq!(subject(r#"{"type":"user.deleted","data":{"id":"user_1"}}"#).as_deref(), Some("user_1"));
        assert_eq!(
            subject(r#"{"type":"organization.created","data":{"created_by":"user_1","id":"org_1"}}"#)
                .as_deref(),
            Some("org_1")
        );
        assert_eq!(
            subject(r#"{"type":"subscription.created","data":{"id":"s","payer":{"organization_id":"org_1","user_id":""}}}"#)
                .as_deref(),
            Some("org_1")
        );
        assert_eq!(
            subject(r#"{"type":"session.ended","data":{"id":"s","user":null,"user_id":"user_1"}}"#)
                .as_deref(),
            Some("user_1")
        );
    }

    #[test]
    fn an_address_is_digested_and_equal_addresses_share_a_subject() {
        let body =
            |mail: &str| format!(r#"{{"type":"waitlistEntry.created","data":{{"email_address":"{mail}"}}}}"#);
        let one = subject(&body("A@example.com")).unwrap();
        assert!(one.starts_with("sha256:") && !one.contains('@'));
        assert_eq!(Some(one), subject(&body("a@example.com")));
    }

    #[test]
    fn fields_of_another_shape_are_absent() {
        assert_eq!(scan(br#"{"type":5,"data":[1,{"id":"x"}],"instance_id":null}"#), Facts::default());
        assert_eq!(scan(br#"{"type":{"a":1},"data":"text"}"#), Facts::default());
        assert_eq!(subject(r#"{"data":{"id":"a","user_id":true,"payer":[1.5,-2]}}"#).as_deref(), Some("a"));
    }

    #[test]
    fn the_last_of_two_equal_keys_counts() {
        assert_eq!(subject(r#"{"data":{"id":"a"},"data":{"id":"b"}}"#).as_deref(), Some("b"));
        assert_eq!(scan(br#"{"type":"a.b","type":"c.d"}"#).event_type.as_deref(), Some("c.d"));
    }

    #[test]
    fn a_body_that_is_not_json_has_no_facts() {
        for body in [&b""[..], b"{", b"\xef\xbb\xbf{}", b"{\"type\":\"a\"} x", b"{\"type\":\"\xff\"}"] {
            assert_eq!(scan(body), Facts::default());
        }
    }

    #[test]
    fn deep_nesting_neither_overflows_nor_hides_the_type() {
        let body = format!(r#"{{"x":{}{},"type":"user.created"}}"#, "[".repeat(100_000), "]".repeat(100_000));
        assert_eq!(scan(body.as_bytes()).event_type.as_deref(), Some("user.created"));
    }
}
