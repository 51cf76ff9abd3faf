//! What happens on the token endpoint: a file a step.
//!
//! [`refresh`] claims the grant, decides and calls the inner service; [`commit`] stores what came
//! of it; [`replay`] gives the same answer again; [`hint`] refuses from memory; [`issue`] begins a
//! grant, [`adopt`] takes one in from before the layer was there.

mod adopt;
mod ask;
mod commit;
mod draw;
mod hint;
mod issue;
mod lease;
mod persist;
mod presented;
mod refresh;
mod replay;

pub(crate) use self::draw::AccessDraw;
pub(crate) use self::hint::refuse_by_hint;
pub(crate) use self::issue::issue;
pub(crate) use self::presented::Presentation;
pub(crate) use self::refresh::{end, refresh, refuse, unreadable, unseal};
