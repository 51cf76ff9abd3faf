//! Finds parameters of an authorization request in a form.

use bytes::{Bytes, BytesMut};

use super::Refusal;
use super::parameter::{Parameter, check_pair, is_separator};

/// The longest parameter of a form that is inspected, in bytes.
pub(super) const LONGEST: usize = 64 << 10;

/// The length, in bytes, up to which an incomplete name is checked each time more of it arrives.
pub(super) const SHORT_NAME: usize = 512;

/// Checks a form while it streams to the upstream. An inspected parameter is held back until it is
/// complete, so that the upstream never receives a refused form in full.
#[derive(Debug, Default)]
pub struct FormCheck {
    /// The beginning of the current parameter, while it may need inspection.
    held: BytesMut,
    place: Place,
    /// The length of an incomplete name at which it is checked again.
    look_again: usize,
}

/// The position of the last received byte in the form.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Place {
    #[default]
    Name,
    Checked,
    Skipped,
}

impl FormCheck {
    /// Consumes the next bytes of the form. Returns the bytes that may be passed on.
    pub(super) fn feed(&mut self, data: &[u8]) -> Result<Bytes, Refusal> {
        let mut out = BytesMut::with_capacity(self.held.len() + data.len());
        let mut rest = data;
        while let [first, after @ ..] = rest {
            let is_end =
                |byte: &u8| is_separator(*byte) || (self.place == Place::Name && *byte == b'=');
            let length = rest.iter().position(is_end).unwrap_or(rest.len());
            if length > 0 {
                let (piece, after) = rest.split_at(length);
                if self.place == Place::Skipped {
                    out.extend_from_slice(piece)
                } else {
                    self.hold(piece, &mut out)?
                }
                rest = after;
            } else if *first == b'=' {
                self.place = if Parameter::named(&self.held).is_some() {
                    Place::Checked
                } else {
                    Place::Skipped
                };
                self.held.extend_from_slice(b"=");
                if self.place == Place::Skipped {
                    out.unsplit(self.held.split());
                }
                rest = after;
            } else {
                self.finish_pair(&mut out)?;
                out.extend_from_slice(&[*first]);
                rest = after;
            }
        }
        // Most names differ from the inspected ones in the first bytes. A long name is checked only
        // when its length has doubled, so that the cost stays linear.
        if self.place == Place::Name && self.held.len() >= self.look_again {
            if self.held.len() > SHORT_NAME {
                self.look_again = self.held.len() * 2;
            }
            if !Parameter::may_begin(&self.held) {
                self.place = Place::Skipped;
                out.unsplit(self.held.split());
            }
        }
        Ok(out.freeze())
    }

    /// Returns the bytes that were held back, at the end of the form.
    pub(super) fn finish(&mut self) -> Result<Bytes, Refusal> {
        let mut out = BytesMut::new();
        self.finish_pair(&mut out)?;
        Ok(out.freeze())
    }

    /// Returns how many bytes are held back.
    pub(super) fn held(&self) -> usize {
        self.held.len()
    }

    fn hold(&mut self, piece: &[u8], out: &mut BytesMut) -> Result<(), Refusal> {
        self.held.extend_from_slice(piece);
        if self.held.len() <= LONGEST {
            return Ok(());
        }
        // A name of this length is an inspected one only if some servers end it earlier, at a NUL
        // or a bracket.
        if self.place == Place::Checked || Parameter::named(&self.held).is_some() {
            return Err(Refusal::TooLong);
        }
        // The name is not that of an inspected parameter.
        self.place = Place::Skipped;
        out.unsplit(self.held.split());
        Ok(())
    }

    fn finish_pair(&mut self, out: &mut BytesMut) -> Result<(), Refusal> {
        check_pair(&self.held)?;
        out.unsplit(self.held.split());
        self.place = Place::Name;
        self.look_again = 0;
        Ok(())
    }
}
