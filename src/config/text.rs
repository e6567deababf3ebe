//! Where the text of the configuration comes from: `--config`, else `CLERK_RELAY_CONFIG` (a path) or
//! `CLERK_RELAY_YAML` (the text itself), else `relay.yaml` in the working directory.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use super::vars::Env;

/// The file that is read when nothing else is said.
pub const FILE_DEFAULT: &str = "relay.yaml";
/// Names a file.
pub const VARIABLE_PATH: &str = "CLERK_RELAY_CONFIG";
/// Holds the text itself.
pub const VARIABLE_TEXT: &str = "CLERK_RELAY_YAML";
/// The largest file that is read, in bytes: a thousand targets have room in it, a wrong path does no harm.
const BYTES_MAX: u64 = 1024 * 1024;

/// The text of a configuration, and what to call it in mistakes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Text {
    /// A path, or the name of the variable.
    pub name: String,
    /// The text itself.
    pub content: String,
}

/// Why there is no text.
#[derive(Debug, thiserror::Error)]
pub enum NoText {
    /// The file that was named is not there.
    #[error("there is no file {path} ({from}); `clerk-relay init` writes an example", path = .path.display())]
    Missing {
        /// Which.
        path: PathBuf,
        /// Who named it.
        from: Named,
    },
    /// It is there, but cannot be read.
    #[error("{path} ({from}) cannot be read", path = .path.display())]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// Who named it.
        from: Named,
        /// Why.
        source: io::Error,
    },
    /// It is larger than any configuration.
    #[error("{path} ({from}) is larger than 1 MiB, which no configuration is", path = .path.display())]
    TooLarge {
        /// Which.
        path: PathBuf,
        /// Who named it.
        from: Named,
    },
    /// Two variables disagree.
    #[error("both {VARIABLE_PATH} and {VARIABLE_TEXT} are set; set one of them")]
    Both,
}

/// Who named a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Named {
    /// `--config`.
    Argument,
    /// `CLERK_RELAY_CONFIG`.
    Variable,
    /// Nobody: it is the default.
    Nobody,
}

impl std::fmt::Display for Named {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Argument => f.write_str("named by --config"),
            Self::Variable => write!(f, "named by {VARIABLE_PATH}"),
            Self::Nobody => {
                write!(f, "the default; neither --config, {VARIABLE_PATH} nor {VARIABLE_TEXT} is given")
            }
        }
    }
}

/// Finds the text. `argument` is the value of `--config`; empty variables count as unset.
///
/// # Errors
/// [`NoText`], which says what was looked for.
pub fn find(argument: Option<&Path>, env: &Env<'_>) -> Result<Text, NoText> {
    let set = |name: &str| env(name).filter(|value| !value.is_empty());
    match (argument, set(VARIABLE_PATH), set(VARIABLE_TEXT)) {
        (Some(path), _, _) => read(path.to_owned(), Named::Argument),
        (None, Some(_), Some(_)) => Err(NoText::Both),
        (None, Some(path), None) => read(path.into(), Named::Variable),
        (None, None, Some(content)) => Ok(Text { name: VARIABLE_TEXT.into(), content }),
        (None, None, None) => read(FILE_DEFAULT.into(), Named::Nobody),
    }
}

fn read(path: PathBuf, from: Named) -> Result<Text, NoText> {
    let mut bytes = Vec::new();
    match File::open(&path).and_then(|file| file.take(BYTES_MAX + 1).read_to_end(&mut bytes)) {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(NoText::Missing { path, from }),
        Err(source) => return Err(NoText::Unreadable { path, from, source }),
    }
    if bytes.len() as u64 > BYTES_MAX {
        return Err(NoText::TooLarge { path, from });
    }
    match String::from_utf8(bytes) {
        Ok(content) => Ok(Text { name: path.display().to_string(), content }),
        Err(error) => {
            let source = io::Error::new(io::ErrorKind::InvalidData, error.utf8_error());
            Err(NoText::Unreadable { path, from, source })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(argument: Option<&Path>, env: &Env<'_>) -> String {
        find(argument, env).unwrap_err().to_string()
    }

    #[test]
    fn the_argument_wins_over_the_variables_and_they_over_the_default() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.yaml");
        std::fs::write(&path, "from: file").unwrap();
        let shown = path.display().to_string();
        let both = |_: &str| Some("x".to_owned());
        assert_eq!(
            find(Some(&path), &both).unwrap(),
            Text { name: shown.clone(), content: "from: file".into() }
        );
        let by_path = |name: &str| (name == VARIABLE_PATH).then(|| shown.clone());
        assert_eq!(find(None, &by_path).unwrap().content, "from: file");
        let by_text = |name: &str| (name == VARIABLE_TEXT).then(|| "a: b".to_owned());
        assert_eq!(
            find(None, &by_text).unwrap(),
            Text { name: VARIABLE_TEXT.into(), content: "a: b".into() }
        );
    }

    #[test]
    fn an_error_says_what_was_looked_for() {
        let folder = tempfile::tempdir().unwrap();
        let absent = folder.path().join("absent.yaml");
        let unset = |_: &str| None;
        assert!(error(Some(&absent), &unset).contains("absent.yaml (named by --config); `clerk-relay init`"));
        assert!(error(Some(folder.path()), &unset).contains("cannot be read"));
        assert!(error(None, &|_: &str| Some("x".into())).contains("set one of them"));
        let huge = folder.path().join("huge.yaml");
        std::fs::write(&huge, "é".repeat(600 * 1024)).unwrap();
        assert!(error(Some(&huge), &unset).contains("larger than 1 MiB"));
    }
}
