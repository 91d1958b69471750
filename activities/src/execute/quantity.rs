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

/// Cores of a Kubernetes quantity: `500m`, `1`, `0.5`.
///
/// # Errors
/// A sentence, when it is none, or no number of cores that a machine has.
pub fn kubernetes_cores(text: &str) -> Result<f64, String> {
    let cores = kubernetes_amount(text)?;
    if (LEAST_CORES..=MOST_CORES).contains(&cores) {
        return Ok(cores);
    }
    Err(format!("{text:?} is not between {LEAST_CORES} and {MOST_CORES} cores; write 500m for half a core"))
}

/// Bytes of a Kubernetes quantity: `512Mi`, `1G`, `1048576`.
///
/// # Errors
/// A sentence, when it is none, or below 6 MiB, which is the least that a container engine takes: `512m` is half a byte.
pub fn kubernetes_bytes(text: &str) -> Result<f64, String> {
    let bytes = kubernetes_amount(text)?;
    if (LEAST_MEMORY as f64..9e15).contains(&bytes) {
        return Ok(bytes);
    }
    Err(format!(
        "{text:?} is not between 6Mi, the least, and what machines have; Mi are mebibytes, and m is a thousandth"
    ))
}

fn kubernetes_amount(text: &str) -> Result<f64, String> {
    let digits = text.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(text.len());
    let (number, suffix) = text.split_at(digits);
    let factor = match suffix {
        "m" => 1e-3,
        "" => 1.0,
        "k" => 1e3,
        "M" => 1e6,
        "G" => 1e9,
        "T" => 1e12,
        "Ki" => f64::from(1_u32 << 10),
        "Mi" => f64::from(1_u32 << 20),
        "Gi" => f64::from(1_u32 << 30),
        "Ti" => f64::from(1_u32 << 30) * 1024.0,
        _ => f64::NAN,
    };
    let amount = number.parse::<f64>().ok().map(|number| number * factor).filter(|amount| amount.is_finite());
    amount.ok_or_else(|| {
        format!("{text:?} is no quantity of Kubernetes; expected a number with a suffix, such as 500m or 512Mi")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_of_kubernetes_are_numbers_with_its_suffixes() {
        for (text, cores) in [("100m", 0.1), ("1000m", 1.0), ("1", 1.0), ("0.5", 0.5), ("2.5", 2.5)] {
            assert_eq!(kubernetes_cores(text), Ok(cores), "{text}");
        }
        for (text, bytes) in
            [("128Mi", 134_217_728.0), ("1Gi", 1_073_741_824.0), ("64M", 64e6), ("10485760", 10_485_760.0)]
        {
            assert_eq!(kubernetes_bytes(text), Ok(bytes), "{text}");
        }
        for text in ["", "m", "-1", "1e3", "1 ", "5k", "0", "nan", "inf", "1.2.3", "1m m"] {
            assert!(kubernetes_cores(text).is_err(), "{text}");
        }
        for text in ["512m", "512mb", "5Mi", "512MI", "99999Ti", "Mi", "0x10Mi"] {
            assert!(kubernetes_bytes(text).is_err(), "{text}");
        }
    }

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
