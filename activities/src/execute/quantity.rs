//! Amounts of memory and CPU as tickets and settings write them.

/// Fewest cores that a limit can say: the kernel gives CPU time in thousandths of a second.
pub const LEAST_CORES: f64 = 0.01;
/// More cores than any machine has.
pub const MOST_CORES: f64 = 1024.0;
/// Least memory that a container engine takes.
const LEAST_MEMORY: u64 = 6 * 1024 * 1024;

/// Bytes of `512m`, `1g`, `1048576`: a number with one of the suffixes `b k kb m mb g gb`, in any case
/// (`contracts/executors.md`, Docker).
///
/// # Errors
/// A sentence, when it is none, or below 6 MiB, which is the least that a container engine takes.
pub fn memory_bytes(text: &str) -> Result<i64, String> {
    let text = text.trim().to_ascii_lowercase();
    let digits = text.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(text.len());
    let (number, suffix) = text.split_at(digits);
    let factor: u64 = match suffix.trim() {
        "" | "b" => 1,
        "k" | "kb" => 1 << 10,
        "m" | "mb" => 1 << 20,
        "g" | "gb" => 1 << 30,
        _ => return Err(format!("{text:?} is no amount of memory; expected a number with b, k, m or g, such as 512m")),
    };
    let bytes = number.parse::<f64>().ok().map(|number| number * factor as f64);
    // Above 2^53 a number of bytes is no longer exact, and no machine has so much.
    let bytes = bytes.filter(|bytes| (LEAST_MEMORY as f64..9e15).contains(bytes));
    bytes
        .map(|bytes| bytes as i64)
        .ok_or_else(|| format!("{text:?} is not between 6m, the least, and what machines have"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_of_memory_are_numbers_with_a_suffix() {
        for (text, bytes) in [
            ("512m", 512 << 20),
            ("1g", 1 << 30),
            ("1.5GB", 3 << 29),
            (" 64 MB ", 64 << 20),
            ("10240k", 10 << 20),
            ("6291456", 6 << 20),
            ("6291456b", 6 << 20),
        ] {
            assert_eq!(memory_bytes(text), Ok(bytes), "{text}");
        }
        for text in ["", "m", "5m", "-1g", "1e9", "512mi", "1t", "99999999g", "1.2.3g", "0x10m", "nan"] {
            assert!(memory_bytes(text).is_err(), "{text}");
        }
    }
}
