//! The one error of the whole program: what kind it is, what was being done, why, and what would help.

use std::error::Error as StdError;
use std::fmt;

/// The result that every fallible function of the library returns.
pub type Result<T, E = Error> = std::result::Result<T, E>;

type Source = Box<dyn StdError + Send + Sync + 'static>;

/// What went wrong, in the terms that decide what happens next.
///
/// Retry, exit code and heading come from [`Kind::disposition`] and [`Kind::exit_code`], never from an error's text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A file of the project is wrong.
    Config,
    /// The command line asks for something that does not exist or contradicts itself.
    Usage,
    /// A run would have nothing to do: whatever it could do is done.
    NothingDue,
    /// A template could not be rendered.
    Template,
    /// A connection or a secret could not be resolved.
    Connection,
    /// The other side refused who we are.
    Auth,
    /// The other side cannot be reached, was cut off, or answered that it is overloaded.
    Unavailable,
    /// The other side asked for a pause.
    RateLimited,
    /// The other side's answer is not what the hook describes.
    Source,
    /// Rows do not fit the table: a type conflict, a frozen contract, a row outside its unit.
    Data,
    /// A check on the new rows failed.
    Check,
    /// A guard refused the new rows; the old rows stay.
    Held,
    /// It would be billed for more than `max_bytes` allows; nothing was spent.
    Budget,
    /// The warehouse refused a statement.
    Warehouse,
    /// Another worker owns this unit now; nothing was written.
    Stale,
    /// A file, a database or a lock is in use or unreadable.
    Storage,
    /// The user asked to stop.
    Cancelled,
    /// A defect of haul itself.
    Internal,
}

/// All kinds.
const ALL: [Kind; 18] = [
    Kind::Config,
    Kind::Usage,
    Kind::NothingDue,
    Kind::Template,
    Kind::Connection,
    Kind::Auth,
    Kind::Unavailable,
    Kind::RateLimited,
    Kind::Source,
    Kind::Data,
    Kind::Check,
    Kind::Held,
    Kind::Budget,
    Kind::Warehouse,
    Kind::Stale,
    Kind::Storage,
    Kind::Cancelled,
    Kind::Internal,
];

/// What a task does after an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Disposition {
    /// The same attempt may succeed later.
    Retry,
    /// Trying again gives the same answer.
    Stop,
}

impl Kind {
    /// Whether a later attempt may succeed where this one failed.
    pub fn disposition(self) -> Disposition {
        match self {
            Self::Unavailable | Self::RateLimited => Disposition::Retry,
            Self::Config
            | Self::Usage
            | Self::NothingDue
            | Self::Template
            | Self::Connection
            | Self::Auth
            | Self::Source
            | Self::Data
            | Self::Check
            | Self::Held
            | Self::Budget
            | Self::Warehouse
            | Self::Stale
            | Self::Storage
            | Self::Cancelled
            | Self::Internal => Disposition::Stop,
        }
    }

    /// The process's exit code when this error ends a command; the README lists them.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Usage | Self::NothingDue | Self::Config | Self::Template | Self::Connection => 2,
            Self::Auth
            | Self::Unavailable
            | Self::RateLimited
            | Self::Source
            | Self::Data
            | Self::Check
            | Self::Warehouse
            | Self::Stale
            | Self::Storage => 1,
            Self::Held => 3,
            Self::Budget => 5,
            Self::Cancelled => 130,
            Self::Internal => 70,
        }
    }

    /// The kind whose word this is.
    pub fn named(word: &str) -> Option<Self> {
        ALL.into_iter().find(|kind| kind.name() == word)
    }

    /// The word that stands before the message on a screen and in the state store.
    pub fn name(self) -> &'static str {
        match self {
            Self::Config => "config",
            Self::Usage => "usage",
            Self::NothingDue => "nothing due",
            Self::Template => "template",
            Self::Connection => "connection",
            Self::Auth => "auth",
            Self::Unavailable => "unavailable",
            Self::RateLimited => "rate limited",
            Self::Source => "source",
            Self::Data => "data",
            Self::Check => "check",
            Self::Held => "held",
            Self::Budget => "budget",
            Self::Warehouse => "warehouse",
            Self::Stale => "stale",
            Self::Storage => "storage",
            Self::Cancelled => "cancelled",
            Self::Internal => "internal",
        }
    }
}

/// One failure: the operation, its cause, and what would help.
///
/// `doing` is a lowercase fragment without a period that says which operation failed on what;
/// it never repeats its source, since [`Error::chain`] prints both.
pub struct Error {
    inner: Box<Inner>,
}

struct Inner {
    kind: Kind,
    doing: String,
    source: Option<Source>,
    hints: Vec<String>,
    detail: Option<String>,
    status: Option<u16>,
}

impl Error {
    /// An error of `kind` that happened in the operation `doing`.
    pub fn new(kind: Kind, doing: impl Into<String>) -> Self {
        Self {
            inner: Box::new(Inner {
                kind,
                doing: doing.into(),
                source: None,
                hints: Vec::new(),
                detail: None,
                status: None,
            }),
        }
    }

    /// The file or value that a project's author wrote is wrong.
    pub fn config(doing: impl Into<String>) -> Self {
        Self::new(Kind::Config, doing)
    }

    /// The command line asks for something impossible.
    pub fn usage(doing: impl Into<String>) -> Self {
        Self::new(Kind::Usage, doing)
    }

    /// A defect of haul; the text says which belief did not hold.
    pub fn internal(doing: impl Into<String>) -> Self {
        Self::new(Kind::Internal, doing)
    }

    /// Adds the cause.
    #[must_use]
    pub fn because(mut self, source: impl Into<Source>) -> Self {
        self.inner.source = Some(source.into());
        self
    }

    /// Adds one sentence that says what would help.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.inner.hints.push(hint.into());
        self
    }

    /// Adds several lines shown as they are below the message: an excerpt of a file, a table of rows.
    #[must_use]
    pub fn detail(mut self, detail: impl Into<String>) -> Self {
        self.inner.detail = Some(detail.into());
        self
    }

    /// Says with which HTTP status the other side refused.
    #[must_use]
    pub fn with_status(mut self, status: u16) -> Self {
        self.inner.status = Some(status);
        self
    }

    /// The HTTP status with which the other side refused, here or in a cause.
    pub fn status(&self) -> Option<u16> {
        self.inner.status.or_else(|| self.cause().and_then(Self::status))
    }

    /// Wraps this error in a wider operation, keeping its kind.
    #[must_use]
    pub fn while_doing(self, doing: impl Into<String>) -> Self {
        let kind = self.kind();
        let mut outer = Self::new(kind, doing);
        outer.inner.source = Some(Box::new(self));
        outer
    }

    /// What kind of failure this is.
    pub fn kind(&self) -> Kind {
        self.inner.kind
    }

    /// The hints of this error and of its causes, outermost first.
    pub fn hints(&self) -> Vec<&str> {
        let mut hints: Vec<&str> = self.inner.hints.iter().map(String::as_str).collect();
        if let Some(cause) = self.cause() {
            hints.extend(cause.hints());
        }
        hints
    }

    /// The multi-line detail of this error or of its nearest cause that has one.
    pub fn details(&self) -> Option<&str> {
        self.inner.detail.as_deref().or_else(|| self.cause().and_then(Self::details))
    }

    /// The whole chain on one line: `doing: cause: cause of the cause`.
    pub fn chain(&self) -> String {
        let mut text = self.inner.doing.clone();
        let mut source = self.inner.source.as_ref().map(|source| &**source as &(dyn StdError + 'static));
        while let Some(error) = source {
            text.push_str(": ");
            text.push_str(&error.to_string());
            source = error.source();
        }
        text
    }

    fn cause(&self) -> Option<&Self> {
        self.inner.source.as_ref().and_then(|source| source.downcast_ref())
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.inner.doing)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} error: {}", self.kind().name(), self.chain())
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.inner.source.as_ref().map(|source| &**source as &(dyn StdError + 'static))
    }
}

/// Adds the operation to a foreign error.
pub trait Context<T> {
    /// Turns the error into one of `kind` that happened while `doing`.
    fn context(self, kind: Kind, doing: impl FnOnce() -> String) -> Result<T>;
}

impl<T, E: Into<Source>> Context<T> for Result<T, E> {
    fn context(self, kind: Kind, doing: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|source| Error::new(kind, doing()).because(source))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrapped_error_keeps_its_kind_its_hints_and_its_chain() {
        let inner = Error::new(Kind::Auth, "asking for a token").because("401 Unauthorized").hint("renew it");
        let outer = inner.while_doing("pulling `ratings`").hint("see the log");
        assert_eq!(outer.kind(), Kind::Auth);
        assert_eq!(outer.chain(), "pulling `ratings`: asking for a token: 401 Unauthorized");
        assert_eq!(outer.hints(), ["see the log", "renew it"]);
    }
}
