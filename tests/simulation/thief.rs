//! A thief who copies a token at a random moment and uses it.

use std::sync::Arc;

use super::access;
use super::client::Jar;
use super::request::{Action, Caller, Learned, send};
use super::token::Token;
use super::world::World;

/// The thief's knowledge in addition to the token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Loot {
    /// Nothing.
    Token,
    /// A client of its own.
    OtherClient,
    /// The id of the client, which is not a secret.
    SidecarName,
    /// Everything that the client has.
    Everything,
}

/// Steals and uses one token, and perhaps its successors.
pub(crate) async fn theft(world: Arc<World>, jars: Vec<Arc<Jar>>) {
    world.pause(0, 200_000).await;
    let Some(jar) = world.pick(&jars) else { return };
    let Some(mut token) = copy(&world, jar) else {
        return;
    };
    match world.below(3) {
        0 => world.pause(0, 300).await,
        1 => world.pause(300, 60_000).await,
        _ => world.pause(60_000, 400_000).await,
    }
    let loot = [
        Loot::Token,
        Loot::OtherClient,
        Loot::SidecarName,
        Loot::SidecarName,
        Loot::Everything,
        Loot::Everything,
    ];
    let Some(loot) = world.pick(&loot).copied() else {
        return;
    };
    let honest = &jar.caller;
    let caller = Caller {
        name: "thief",
        client: match loot {
            Loot::Token => None,
            Loot::OtherClient => Some("client-of-the-thief".into()),
            Loot::SidecarName | Loot::Everything => honest.client.clone(),
        },
        secret: honest.secret.clone().filter(|_| loot == Loot::Everything),
        asserts: honest.asserts,
        entitled: loot == Loot::Everything
            || (loot == Loot::SidecarName && honest.secret.is_none()),
        named: matches!(loot, Loot::SidecarName | Loot::Everything),
        person: None,
    };
    for _ in 0..1 + world.below(if caller.entitled { 3 } else { 1 }) {
        // Without the secret, every token is useless, and harmless, too, unless it is the current
        // one and the client has not saved it: then the client can no longer recover.
        let held = jar.newest().is_some_and(|held| held.token.tag == token.tag);
        if caller.entitled || (caller.named && !held && world.ledger().is_current(&token)) {
            world.ledger().robbed(&token);
        }
        let forged = if world.one_in(8, 1) {
            token.forged()
        } else {
            None
        };
        let presented = forged.unwrap_or_else(|| token.clone());
        if let Learned::Token(next) = send(&world, &caller, &Action::Refresh(presented)).await {
            token = next.token;
        }
        match world.below(3) {
            0 => world.pause(0, 2000).await,
            1 => world.pause(2000, 30_000).await,
            _ => world.pause(60_000, 200_000).await,
        }
        access::present_old(&world, "thief", 1).await;
    }
}

/// Returns the token that the client holds, or any that it ever held.
fn copy(world: &World, jar: &Jar) -> Option<Token> {
    if world.one_in(2, 1) {
        return jar.newest().map(|held| held.token);
    }
    let key = jar.newest()?.token.key;
    let tokens = world.ledger().tokens();
    let line = tokens
        .iter()
        .find(|tokens| tokens.first().is_some_and(|token| token.key == key))?;
    world.pick(line).cloned()
}

/// Uses a token whose windows are over, perhaps without the secret of its client. With it, no token
/// of the grant works from then on.
pub(crate) async fn last_theft(world: &Arc<World>, jars: &[Arc<Jar>]) {
    let over = world.ledger().over(world.elapsed());
    let Some(token) = world.pick(&over).cloned() else {
        return;
    };
    let Some(session) = world.ledger().session(&token) else {
        return;
    };
    let Some(jar) = jars
        .iter()
        .find(|jar| jar.newest().is_some_and(|held| held.session == session))
    else {
        return;
    };
    let honest = jar.caller.clone();
    let secret = honest.secret.clone().filter(|_| world.one_in(2, 1));
    let caller = Caller {
        name: "thief",
        entitled: secret == honest.secret,
        secret,
        ..honest
    };
    if caller.entitled {
        world.ledger().robbed(&token);
    }
    send(world, &caller, &Action::Refresh(token)).await;
}
