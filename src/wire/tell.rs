//! The options of a GET in a session that ask for more than the document.

/// What the reply to a GET in a session is to tell beside the document.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Tell<'a> {
    /// `tell=times`: how old the document is and for how long it stays fresh.
    pub times: bool,
    /// `meta=1`: what else is known of it, for a proxy in front ([`super::Meta`]).
    pub meta: bool,
    /// `if=<etag>`: the token of the validator of the document that the client holds. It needs `meta`.
    pub held: Option<&'a str>,
}

impl Tell<'_> {
    /// The times alone, if so.
    pub fn times(times: bool) -> Self {
        Self { times, ..Self::default() }
    }

    /// Appends the options, each behind a space.
    pub fn write(&self, out: &mut Vec<u8>) {
        if self.times {
            out.extend_from_slice(b" tell=times");
        }
        if self.meta {
            out.extend_from_slice(b" meta=1");
        }
        if let Some(held) = self.held {
            out.extend_from_slice(b" if=");
            out.extend_from_slice(held.as_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Request;

    #[test]
    fn options_are_read_as_they_were_written() {
        for tell in [Tell { times: true, meta: true, held: Some("W/%22a=b%22") }, Tell::default()] {
            let mut line = b"GET a/b".to_vec();
            tell.write(&mut line);
            let line = String::from_utf8(line).unwrap();
            assert_eq!(Request::parse_with_options(&line).unwrap().1.tell, tell);
        }
    }
}
