//! Why a node does not become operators of the graph.

use super::super::Error;
use crate::graph::Unread;

/// Why a node does not become an operator of the graph.
#[derive(Debug)]
pub enum Fault {
    /// It contradicts the specification: an error.
    Invalid(String),
    /// It is valid, and more than the graph can say: it is kept as it is.
    Unsupported(Why),
    /// Something else it needs could not be read.
    Source(Error),
}

/// Why a node is kept as it is.
#[derive(Debug)]
pub struct Why {
    pub text: String,
    /// A limit of kdc's, where it is one.
    pub unread: Option<Unread>,
}

impl From<String> for Why {
    fn from(text: String) -> Why {
        Why { text, unread: None }
    }
}

impl From<&str> for Why {
    fn from(text: &str) -> Why {
        text.to_string().into()
    }
}

impl From<Unread> for Why {
    fn from(unread: Unread) -> Why {
        Why { text: unread.to_string(), unread: Some(unread) }
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Fault {
        Fault::Source(error)
    }
}

pub fn invalid<T>(what: impl Into<String>) -> Result<T, Fault> {
    Err(Fault::Invalid(what.into()))
}

pub fn unsupported<T>(why: impl Into<Why>) -> Result<T, Fault> {
    Err(Fault::Unsupported(why.into()))
}
