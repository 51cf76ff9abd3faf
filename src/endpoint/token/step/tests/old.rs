//! The step after a claim with the previous token or an older one.

use super::*;

const SKEW: u64 = 30;

#[test]
fn the_step_after_a_claim_with_the_previous_token() {
    let free = Lease::OtherTag(None);
    let held = Lease::OtherTag(Some(OTHER_LEASE));
    let request = |now, lease| Row::new(PREVIOUS, now, lease);
    let in_recovery = RETRY_UNTIL + SKEW;
    let rows = [
        ("in the retry window", request(1, free), Step::Replay),
        (
            "in the retry window, while the current token rotates",
            request(1, held),
            Step::Replay,
        ),
        (
            "shortly after the retry window",
            request(RETRY_UNTIL, free),
            Step::Replay,
        ),
        (
            "in the retry window, without an answer",
            request(1, free).without_answer(),
            Step::Refuse(Refusal::Late),
        ),
        (
            "in the retry window, without an answer, just before its last 30 seconds",
            request(RETRY_UNTIL - SKEW - 1, free).without_answer(),
            Step::Refuse(Refusal::Late),
        ),
        (
            "in the last 30 seconds of the retry window, without an answer",
            request(RETRY_UNTIL - SKEW, free).without_answer(),
            Step::Reclaim,
        ),
        (
            "at the end of the retry window, without an answer",
            request(RETRY_UNTIL - 1, free).without_answer(),
            Step::Reclaim,
        ),
        (
            "at the end of the retry window, without an answer, held",
            request(RETRY_UNTIL - 1, held).without_answer(),
            Step::Wait,
        ),
        (
            "shortly after the retry window, without an answer",
            request(RETRY_UNTIL, free).without_answer(),
            Step::Reclaim,
        ),
        (
            "in the recovery window",
            request(in_recovery, free),
            Step::Reclaim,
        ),
        (
            "in the recovery window, held",
            request(in_recovery, held),
            Step::Wait,
        ),
        (
            "in the recovery window, claimed with the tag of the current token",
            request(in_recovery, Lease::Taken),
            Step::Rotate(Proceed::Recover),
        ),
        (
            "in the recovery window, taken over",
            request(in_recovery, Lease::Taken).taken_over(),
            Step::WaitForTakeover,
        ),
        (
            "in the recovery window, taken over and repeated",
            request(in_recovery, Lease::Taken).taken_over().repeated(),
            Step::Rotate(Proceed::Recover),
        ),
        (
            "after a recovery whose lease expired",
            request(in_recovery, free).expired(Purpose::Recovery),
            Step::Reclaim,
        ),
        (
            "after a rotation whose lease expired",
            request(in_recovery, free).expired(Purpose::Rotation),
            Step::Refuse(Refusal::Reuse),
        ),
        (
            "after the recovery window",
            request(RECOVER_UNTIL, free),
            Step::Refuse(Refusal::Reuse),
        ),
        (
            "after the recovery window, having waited",
            request(RECOVER_UNTIL, free).waited(),
            Step::Refuse(Refusal::Late),
        ),
    ];
    for (name, row, step) in rows {
        assert_eq!(row.step(&record()), step, "{name}");
    }
}

#[test]
fn the_step_after_a_claim_with_an_old_token_in_the_shared_window() {
    let free = Lease::OtherTag(None);
    let held = Lease::OtherTag(Some(OTHER_LEASE));
    let request = |lease| Row::new(PREVIOUS, SHARED_UNTIL - 1, lease);
    let older = |lease| Row::new(OLD, SHARED_UNTIL - 1, lease).way(Way::Current);
    let rows = [
        (
            "previous, in the retry window, without an answer",
            Row::new(PREVIOUS, 1, free).without_answer(),
            Step::Reclaim,
        ),
        ("previous", request(free), Step::Reclaim),
        ("previous, held", request(held), Step::Wait),
        (
            "previous, after a rotation whose lease expired",
            request(free).expired(Purpose::Rotation),
            Step::Reclaim,
        ),
        (
            "previous, claimed with the tag of the current token",
            request(Lease::Taken),
            Step::Rotate(Proceed::Converge),
        ),
        (
            "previous, taken over",
            request(Lease::Taken).taken_over(),
            Step::WaitForTakeover,
        ),
        (
            "previous, at the end of the window",
            Row::new(PREVIOUS, SHARED_UNTIL, free),
            Step::Reclaim,
        ),
        (
            "previous, at the end of the window, claimed",
            Row::new(PREVIOUS, SHARED_UNTIL, Lease::Taken),
            Step::Rotate(Proceed::Recover),
        ),
        (
            "older, its links unknown",
            older(free).way(Way::Open),
            Step::Follow,
        ),
        (
            "older, its links unknown, held",
            older(held).way(Way::Open),
            Step::Follow,
        ),
        ("older, reached", older(free), Step::Replay),
        (
            "older, reached, without an answer",
            older(free).without_answer(),
            Step::Reclaim,
        ),
        (
            "older, reached, without an answer, held",
            older(held).without_answer(),
            Step::Wait,
        ),
        (
            "older, reached, claimed",
            older(Lease::Taken).without_answer(),
            Step::Rotate(Proceed::Converge),
        ),
        (
            "older, without links",
            older(free).way(Way::DeadEnd),
            Step::Refuse(Refusal::Reuse),
        ),
        (
            "older, without links, having waited",
            older(free).way(Way::DeadEnd).waited(),
            Step::Refuse(Refusal::Late),
        ),
        (
            "older, without links, in the retry window",
            Row::new(OLD, 1, free).way(Way::DeadEnd),
            Step::Refuse(Refusal::Late),
        ),
        (
            "older, if old tokens have no links",
            Row::new(OLD, SHARED_UNTIL - 1, free),
            Step::Refuse(Refusal::Reuse),
        ),
        (
            "current, through an adopted token",
            Row {
                adopted: true,
                ..Row::new(CURRENT, SHARED_UNTIL, Lease::Taken)
            },
            Step::Replay,
        ),
        (
            "current, through an adopted token, without an answer",
            Row {
                adopted: true,
                ..Row::new(CURRENT, SHARED_UNTIL, Lease::Taken).without_answer()
            },
            Step::Rotate(Proceed::Rotate),
        ),
        (
            "older, reached, but the grant has expired",
            Row::new(OLD, EXPIRES_AT, free).way(Way::Current),
            Step::Refuse(Refusal::Expired),
        ),
    ];
    for (name, row, step) in rows {
        assert_eq!(row.step(&shared()), step, "{name}");
    }
}
