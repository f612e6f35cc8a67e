//! Large numbers in eight digits and a letter.

/// A count, right-aligned in nine columns. From a hundred million on it is divided by powers of 1000 and gets a letter, unless `exact`,
/// when it may run over the column (and then keeps one blank in front).
pub fn large(count: u64, exact: bool) -> String {
    const MILLION: u64 = 1_000_000;
    const GIGA: u64 = 1000 * MILLION;
    const TERA: u64 = 1000 * GIGA;
    if exact {
        return format!(" {count:>8}");
    }
    let (divisor, letter) = match count {
        0..100_000_000 => return format!("{count:>9}"),
        100_000_000..GIGA => (1000, 'K'),
        GIGA..100_000_000_000 => (MILLION, 'M'),
        100_000_000_000..100_000_000_000_000 => (GIGA, 'G'),
        _ => (TERA, 'T'),
    };
    format!("{:>8}{letter}", count / divisor)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What ipvsadm 1.31 prints for these.
    #[test]
    fn scales_where_ipvsadm_scales() {
        for (count, text) in [
            (0, "        0"),
            (99_999_999, " 99999999"),
            (100_000_000, "  100000K"),
            (999_999_999, "  999999K"),
            (1_000_000_000, "    1000M"),
            (99_999_999_999, "   99999M"),
            (100_000_000_000, "     100G"),
            (99_999_999_999_999, "   99999G"),
            (100_000_000_000_000, "     100T"),
            (u64::MAX, "18446744T"),
        ] {
            assert_eq!(large(count, false), text);
        }
    }

    #[test]
    fn exact_numbers_run_over() {
        assert_eq!(large(7, true), "        7");
        assert_eq!(large(99_999_999, true), " 99999999");
        assert_eq!(large(123_456_789_012, true), " 123456789012");
    }
}
