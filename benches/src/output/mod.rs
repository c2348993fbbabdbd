//! What a user sees: results on standard output, progress on standard error, JSON, a page or a picture in a file.

pub mod climb;
pub mod compare;
pub mod estimate;
pub mod html;
pub mod json;
pub mod keys;
pub mod keys_picture;
pub mod keys_table;
pub mod markdown;
pub mod numbers;
pub mod numbers_table;
mod paint;
pub mod picture;
pub mod planted;
pub mod profile;
pub mod progress;
pub mod text;
