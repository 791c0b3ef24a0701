//! What stands in a reply beside the document.

use super::changes::Position;
use super::reply::Frame;
use super::served::Served;

/// The members beside the document.
#[derive(Clone, Debug)]
pub enum Beside {
    /// None.
    Nothing,
    /// Those of a proxy.
    Served(Served),
    /// Those of a proxy, and behind them those of [`super::meta::Meta`], as they are written. In sessions only.
    WithMeta(Box<(Served, Vec<u8>)>),
    /// How far the log of an origin was when it began to read ([`super::changes`]). Told in sessions only, for `tell=times`.
    Position(Position),
}

impl Beside {
    /// The members of a proxy, if there are any.
    pub fn served(&self) -> Option<&Served> {
        match self {
            Beside::Served(served) => Some(served),
            Beside::WithMeta(both) => Some(&both.0),
            Beside::Nothing | Beside::Position(_) => None,
        }
    }

    /// Writes the members. `tell_times` adds the age of a fresh document and for how long it stays fresh.
    pub(super) fn frame(&self, tell_times: bool, is_session: bool, out: &mut impl Frame) {
        match self {
            Beside::Served(served) => served.frame(tell_times, is_session, out),
            Beside::WithMeta(both) => {
                both.0.frame(tell_times, is_session, out);
                out.small(if is_session { &both.1 } else { &[] });
            }
            Beside::Position(position) if tell_times && is_session => position.frame(out),
            Beside::Nothing | Beside::Position(_) => {}
        }
    }
}
