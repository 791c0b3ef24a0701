//! What a proxy stands before, in tests whose promises hold before both: an origin that speaks in lines, or an API.

use std::fs;

use super::fake::Hello;
use super::{Address, Data, Fake, Node, Start};

/// What a proxy stands before.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Over {
    Lines,
    Http,
}

impl Over {
    /// A proxy before the upstream at this address. A fake answers in the way that it is asked.
    pub(crate) fn proxy(self, upstream: Address, words: &str) -> Start {
        match self {
            Over::Lines => Start::proxy(upstream, words),
            Over::Http => Start::role("proxy", &format!("--origin http://{upstream} {words}")),
        }
    }

    /// A server of the files of a data directory. It tells of no change, as an API does not.
    pub(crate) fn server_of(self, data: &Data) -> Server {
        if self == Over::Lines {
            return Server::Origin(Start::origin(data.path(), "--changes off").run());
        }
        let files = data.files();
        Server::Api(Fake::start(Hello::Refused, move |asked| {
            let text = fs::read_to_string(files(asked.path().unwrap_or_default()));
            asked.reply(&match text {
                Ok(text) => format!("{{\"status\":\"OK\",\"data\":{text}}}"),
                Err(_) => "{\"status\":\"NOT_FOUND\",\"data\":null}".to_owned(),
            });
        }))
    }
}

/// A server of files.
pub(crate) enum Server {
    Origin(Node),
    Api(Fake),
}

impl Server {
    pub(crate) fn address(&self) -> Address {
        match self {
            Server::Origin(node) => node.address,
            Server::Api(fake) => fake.address,
        }
    }
}

/// Makes a test of each function of [`Over`], once before lines and once before an API.
macro_rules! over_both {
    ($($test:ident),+ $(,)?) => {
        mod over_lines {
            $(#[test] fn $test() { super::$test(crate::support::over::Over::Lines); })+
        }
        mod over_http {
            $(#[test] fn $test() { super::$test(crate::support::over::Over::Http); })+
        }
    };
}
pub(crate) use over_both;
