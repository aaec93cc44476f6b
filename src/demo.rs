//! tmp
/// tmp
/// # Errors
/// none
pub fn run() -> Result<u8, crate::error::Error> {
    Ok(0)
}
