//! The bounds within which the model is checked, and the rules that it finds broken.

use stateright::{Checker as _, HasDiscoveries, Model as _};

use super::{Bug, Layer};

const FLEET: Layer = Layer {
    copies: 2,
    thief: false,
    requests: 2,
    faults: 1,
    jumps: 1,
    replayable: true,
    rotated: false,
    bug: None,
};

/// The thief has the old token and the owner the current one, or the other way round.
const STOLEN: Layer = Layer {
    copies: 1,
    thief: true,
    rotated: true,
    ..FLEET
};

/// Checks every property in every state, and prints the number of states.
#[track_caller]
fn check(name: &str, layer: Layer) {
    let checker = layer.checker().threads(1).spawn_bfs().join();
    let (states, depth) = (checker.unique_state_count(), checker.max_depth());
    println!("{name}: {states} states, at most {depth} events");
    for (property, path) in checker.discoveries() {
        let failed = layer.property(property).expectation.discovery_is_failure();
        assert!(!failed, "{property}: {:?}", path.into_actions());
    }
    for property in layer.properties() {
        let met = !property.expectation.discovery_is_failure();
        let found = checker.discovery(property.name).is_some();
        assert!(found || !met, "never: {}", property.name);
    }
}

#[test]
fn one_client_is_never_refused() {
    let one = Layer {
        copies: 1,
        requests: 3,
        faults: 2,
        jumps: 2,
        ..FLEET
    };
    check("one client", one);
}

#[test]
fn two_copies_are_never_refused_within_the_window() {
    check("two copies", FLEET);
}

#[test]
fn two_copies_whose_requests_cannot_be_replayed_are_never_refused_within_the_window() {
    let assertions = Layer {
        replayable: false,
        ..FLEET
    };
    check("two copies without replays", assertions);
}

#[test]
fn a_thief_and_an_owner_do_not_both_go_on_after_the_window() {
    let thief = Layer {
        copies: 1,
        thief: true,
        ..FLEET
    };
    check("one copy and a thief", thief);
    let all = Layer {
        thief: true,
        requests: 1,
        ..FLEET
    };
    check("two copies and a thief", all);
    check("a thief with another token", STOLEN);
}

#[test]
fn every_broken_rule_is_found() {
    let calm = Layer {
        faults: 0,
        jumps: 0,
        rotated: true,
        ..FLEET
    };
    let late = Layer { jumps: 1, ..calm };
    let rows = [
        (Bug::NoLease, FLEET, "an upstream token is used once"),
        (
            Bug::NoVersionCheck,
            FLEET,
            "a commit replaces what it has claimed",
        ),
        (Bug::NoPause, FLEET, "an upstream token is used once"),
        (
            Bug::ConvergeWithoutLease,
            FLEET,
            "an upstream token is used once",
        ),
        (Bug::RecoverThoughPresented, FLEET, "a window ends"),
        (
            Bug::LinkOutlivesItsWindow,
            Layer { jumps: 4, ..calm },
            "a window ends",
        ),
        (
            Bug::RecordLinkOutlivesItsWindow,
            Layer { faults: 1, ..late },
            "a window ends",
        ),
        (
            Bug::RecordLinkOutlivesItsWindow,
            STOLEN,
            "a thief and an owner do not both go on",
        ),
        (Bug::NoLink, calm, "an honest client is not refused"),
        (
            Bug::LinkToDroppedToken,
            Layer {
                copies: 1,
                faults: 2,
                ..FLEET
            },
            "a usable token leads to the current one",
        ),
        (Bug::ReuseEndsNothing, late, "reuse ends the grant"),
    ];
    for (bug, layer, expected) in rows {
        let layer = Layer {
            bug: Some(bug),
            ..layer
        };
        let first = layer.checker().threads(1);
        let checker = first
            .finish_when(HasDiscoveries::AnyFailures)
            .spawn_bfs()
            .join();
        let broken: Vec<_> = layer
            .properties()
            .into_iter()
            .filter(|property| property.expectation.discovery_is_failure())
            .map(|property| property.name)
            .filter(|name| checker.discovery(name).is_some())
            .collect();
        println!(
            "{bug:?}: found after {} states",
            checker.unique_state_count()
        );
        assert_eq!(broken, [expected], "{bug:?}");
    }
}
