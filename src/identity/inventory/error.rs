//! What can be wrong with an inventory, in words for the person who gave it to us.

use std::fmt;
use std::path::{Path, PathBuf};

/// One input that can't be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InventoryError {
    /// It could not be opened or read.
    #[error("cannot read {path}: {source}", path = .path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// It is of no known form.
    #[error(
        "{path} is not an inventory: it starts with {begins}\n  accepted: kubectl get pods -A -o json, watch events, \
         a copy of /var/lib/cni (the directory), crictl or docker network inspect JSON, CSV with a header that names \
         'ip', a spanwatch journal", path = .path.display()
    )]
    NotRecognised {
        /// The file.
        path: PathBuf,
        /// Its first characters.
        begins: String,
    },
    /// It is text in the wrong encoding.
    #[error(
        "{path} is UTF-16 text, as PowerShell's '>' writes it; save it as UTF-8 (… | Out-File -Encoding utf8 FILE)",
        path = .path.display()
    )]
    Utf16 {
        /// The file.
        path: PathBuf,
    },
    /// Its JSON or CSV is broken.
    #[error("{path}, line {line}{at}: {problem}", path = .path.display(), at = Column(*.column))]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Line, counted from one.
        line: u64,
        /// Column in bytes, counted from one; zero when it doesn't matter.
        column: usize,
        /// What is wrong there.
        problem: String,
    },
    /// It was written by a later version.
    #[error(
        "{path} is a journal of the form {schema:?}, which this version can't read (it reads {known:?}); export it \
         again with this version or update", path = .path.display(), known = super::super::wire::SCHEMA
    )]
    Schema {
        /// The file.
        path: PathBuf,
        /// The form it claims to have.
        schema: String,
    },
    /// It was read, and nobody's address was in it.
    #[error("{path}: nothing found in {format}: expected {expected}\n  {remedy}", path = .path.display())]
    NothingFound {
        /// The file or directory.
        path: PathBuf,
        /// What it was taken for.
        format: &'static str,
        /// What should have been in it.
        expected: &'static str,
        /// What to do.
        remedy: &'static str,
    },
}

struct Column(usize);

impl fmt::Display for Column {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => Ok(()),
            column => write!(f, ", column {column}"),
        }
    }
}

impl InventoryError {
    /// Whether it says only that nothing is there.
    pub(super) fn is_absence(&self) -> bool {
        match self {
            Self::Io { source, .. } => source.kind() == std::io::ErrorKind::NotFound,
            Self::NothingFound { .. } => true,
            _ => false,
        }
    }

    /// The error for broken JSON; serde's own words without the position, which has its place.
    pub(super) fn json(path: &Path, error: &serde_json::Error) -> Self {
        if error.is_io() {
            let source = std::io::Error::new(
                error.io_error_kind().unwrap_or(std::io::ErrorKind::Other),
                error.to_string(),
            );
            return Self::Io {
                path: path.into(),
                source,
            };
        }
        let text = error.to_string();
        let problem = text.split(" at line ").next().unwrap_or(&text);
        Self::Syntax {
            path: path.into(),
            line: error.line() as u64,
            column: error.column(),
            problem: format!("not valid JSON: {problem}"),
        }
    }
}

/// Everything that is wrong with the inputs, so that it can be put right in one go. Never empty.
#[derive(Debug)]
pub struct InventoryErrors(pub Vec<InventoryError>);

impl fmt::Display for InventoryErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, error) in self.0.iter().enumerate() {
            if i > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{error}")?;
        }
        Ok(())
    }
}

impl std::error::Error for InventoryErrors {}
