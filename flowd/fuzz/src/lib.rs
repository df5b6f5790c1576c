//! What the fuzz targets do with an input. Ordinary tests do the same with the committed seeds
//! and with what was found.

pub mod decode_stateful;
pub mod input;
pub mod round_trip;
