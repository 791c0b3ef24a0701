//! `traceparent` of W3C Trace Context (section 3.2): the trace of a request and the client's span in it.
//!
//! `00-<trace, 32 hex digits>-<span, 16>-<flags, 2>`: an HTTP header, and an option of that name in sessions.

use std::fmt;

/// A place within a trace.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TraceParent {
    /// The `trace-id`; never 0.
    pub trace: u128,
    /// The `parent-id`, the client's span; never 0.
    pub span: u64,
    /// The flag `sampled`: the client records its span.
    pub sampled: bool,
}

impl TraceParent {
    /// Reads the value of a header or an option. `None` for any other text: the request has no parent then, which is what
    /// the recommendation asks for. Digits must be lower case; later versions may have more fields behind these four.
    pub fn parse(text: &str) -> Option<Self> {
        let (head, rest) = text.split_at_checked(55)?;
        let fields = head.split('-').collect::<Vec<_>>();
        let [version, trace, span, flags] = fields[..] else { return None };
        let is_hex = |field: &str| field.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        let is_whole = (version.len(), trace.len(), span.len(), flags.len()) == (2, 32, 16, 2);
        if !is_whole || !fields.iter().all(|field| is_hex(field)) {
            return None;
        }
        // Version ff is invalid; a later version may have more fields.
        let ends = match version {
            "ff" => false,
            "00" => rest.is_empty(),
            _ => rest.is_empty() || rest.starts_with('-'),
        };
        let trace = u128::from_str_radix(trace, 16).ok().filter(|&trace| trace != 0)?;
        let span = u64::from_str_radix(span, 16).ok().filter(|&span| span != 0)?;
        let sampled = u8::from_str_radix(flags, 16).ok()? & 1 == 1;
        ends.then_some(Self { trace, span, sampled })
    }
}

impl fmt::Display for TraceParent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{:032x}-{:016x}-{:02x}", self.trace, self.span, u8::from(self.sampled))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "00-0af7651916cd43dd8448eb211c80319c-00f067aa0ba902b7-01";

    #[test]
    fn reads_what_it_writes() {
        let parent = TraceParent::parse(TEXT).unwrap();
        assert_eq!(parent.trace, 0x0af7_6519_16cd_43dd_8448_eb21_1c80_319c);
        assert_eq!((parent.span, parent.sampled), (0x00f0_67aa_0ba9_02b7, true));
        assert_eq!(parent.to_string(), TEXT);
        // Unknown flags are not sent on.
        assert_eq!(TraceParent::parse(&TEXT.replace("-01", "-03")), Some(parent));
        assert!(!TraceParent::parse(&TEXT.replace("-01", "-00")).unwrap().sampled);
    }

    #[test]
    fn reads_versions_to_come() {
        let later = TEXT.replacen("00", "01", 1);
        assert!(TraceParent::parse(&later).is_some());
        assert!(TraceParent::parse(&format!("{later}-more")).is_some());
        assert!(TraceParent::parse(&format!("{later}more")).is_none());
        assert!(TraceParent::parse(&TEXT.replacen("00", "ff", 1)).is_none());
        assert!(TraceParent::parse(&format!("{TEXT}-more")).is_none(), "this version says no more");
    }

    #[test]
    fn what_is_none_is_none() {
        let none = [
            "",
            "00-0-0-01",
            &TEXT[..54],
            &TEXT.to_uppercase(),
            &TEXT.replace("0af7651916cd43dd8448eb211c80319c", &"0".repeat(32)),
            &TEXT.replace("00f067aa0ba902b7", &"0".repeat(16)),
            &TEXT.replacen('-', "_", 1),
            &TEXT.replacen("0a", "+a", 1),
            &format!("{}é-{}", &TEXT[..20], &TEXT[..40]),
        ]
        .map(TraceParent::parse);
        assert_eq!(none, [None; 9]);
    }
}
