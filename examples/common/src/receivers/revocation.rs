//! Global Token Revocation (draft-parecki-oauth-global-token-revocation-06 §3).

use serde::Deserialize;

use super::Refused;
use crate::sessions::Sessions;
use http::StatusCode;

#[derive(Deserialize)]
struct Revocation {
    sub_id: SubjectId,
}

/// The formats of RFC 9493 that name a user.
#[derive(Deserialize)]
#[serde(tag = "format", rename_all = "snake_case")]
enum SubjectId {
    IssSub { iss: String, sub: String },
    Opaque { id: String },
    Email { email: String },
}

/// Ends all sessions of the user that the request names.
///
/// The layer knows users by their sessions only. A user without one is no error, except for an
/// address: it names the user only where the subjects are addresses. Elsewhere the sender must not
/// believe that the user is logged out.
pub(super) async fn receive(body: &[u8], sessions: &Sessions) -> Result<(), Refused> {
    let Revocation { sub_id } = serde_json::from_slice(body).map_err(|_| {
        Refused::invalid("sub_id is missing, malformed, or not of format iss_sub, opaque or email")
    })?;
    let (id, issuer) = match &sub_id {
        SubjectId::IssSub { iss, sub } => (sub, Some(iss.as_str())),
        SubjectId::Opaque { id } => (id, None),
        SubjectId::Email { email } => (email, None),
    };
    let subjects = sessions.subjects(id, issuer);
    let subjects =
        subjects.map_err(|_| Refused::invalid("the identifier of the user is invalid"))?;
    let ended = sessions.end(&subjects).await?;
    tracing::info!(ended, "another server ended the sessions of a user");
    if ended == 0 && matches!(sub_id, SubjectId::Email { .. }) {
        return Err(Refused {
            status: StatusCode::NOT_FOUND,
            ..Refused::invalid("no session has this address as its subject")
        });
    }
    Ok(())
}
