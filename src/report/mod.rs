//! One data model for everything kdc says, with views as text and JSON.
