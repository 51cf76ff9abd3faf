//! The names of the persons who log in.

use tower_oauth_refresh::Subject;

/// Returns the identity of a person.
pub(crate) fn subject(person: usize) -> Subject {
    Subject::new(format!("person-{person}")).unwrap()
}

/// Returns the member of a response that names a person: an ID token, or one that
/// [`name_in`] reads.
pub(super) fn named(session: usize, person: usize) -> String {
    if session.is_multiple_of(2) {
        let token = test_support::users::id_token(&format!(r#"{{"sub":"person-{person}"}}"#));
        format!(r#","id_token":"{token}""#)
    } else {
        format!(r#","person":{person}"#)
    }
}

/// Returns the person whom the response names without an ID token.
pub(super) fn name_in(body: &str) -> Option<usize> {
    let (_, rest) = body.split_once(r#""person":"#)?;
    rest.trim_end_matches('}').parse().ok()
}
