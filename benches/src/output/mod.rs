//! What a user sees: results on standard output, progress on standard error, JSON in a file.

pub mod climb;
pub mod json;
pub mod markdown;
pub mod progress;
pub mod text;
