//! Conforming clients: they keep the newest token, and retry with it if they got no response.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::StatusCode;
use tokio::sync::Mutex as AsyncMutex;
use tokio::time::sleep;

use super::access::{self, Pass};
use super::check::Excuse;
use super::plan::User;
use super::request::{Action, Caller, Learned, send};
use super::store;
use super::token::Token;
use super::upstream::Sessions;
use super::world::World;

/// The storage in which the tabs of a client keep its token.
///
/// A tab may read a slightly outdated value. It writes the next token only if the one that it
/// presented is still there: otherwise another tab was faster.
pub(crate) struct Jar {
    pub(crate) caller: Caller,
    tabs: usize,
    /// Whether it keeps its token as long as its grant lives.
    keeps: bool,
    /// Whether other processes hold copies of its token, each in a jar of its own.
    copied: bool,
    kept: Mutex<Vec<(Duration, Option<Held>)>>,
    /// The lock of a tab to present a token of the authorization server.
    lock: AsyncMutex<()>,
}

#[derive(Clone, Debug)]
pub(crate) struct Held {
    pub(crate) token: Token,
    pub(crate) session: usize,
    /// The access token from the same response, if it is one of the layer.
    pub(crate) pass: Option<Box<Pass>>,
}

impl Jar {
    pub(crate) fn new(world: &World, user: &User) -> Self {
        let caller = Caller {
            name: "client",
            client: Some(user.client.clone()),
            secret: user.secret.clone(),
            asserts: user.asserts,
            entitled: true,
            named: true,
            person: user.person,
        };
        let held = user.foreign.then(|| {
            let session = world
                .sessions()
                .begin(user.client.clone(), user.person, true);
            let token = Token::foreign(Sessions::first(session));
            let owner = world.sessions().owner(session);
            world.ledger().began_before(session, &token);
            if let Some(owner) = owner {
                world.ledger().began(session, owner);
            }
            Held {
                token,
                session,
                pass: None,
            }
        });
        Self {
            caller,
            tabs: user.tabs,
            keeps: user.keeps,
            copied: user.processes > 1,
            kept: Mutex::new(vec![(Duration::ZERO, held)]),
            lock: AsyncMutex::default(),
        }
    }

    /// Returns whether two refreshes at once get the same response, if they present the same token.
    const fn is_alone(&self) -> bool {
        !self.copied && (self.tabs == 1 || !self.caller.asserts)
    }

    pub(crate) fn newest(&self) -> Option<Held> {
        self.kept
            .lock()
            .unwrap()
            .last()
            .and_then(|(_, held)| held.clone())
    }

    /// Returns what a tab reads.
    fn read(&self, world: &World) -> Option<Held> {
        let delay = if self.tabs > 1 && !world.is_calm() {
            world.millis(0, 1500)
        } else {
            Duration::ZERO
        };
        let seen = world.elapsed().saturating_sub(delay);
        let kept = self.kept.lock().unwrap();
        kept.iter()
            .rfind(|(at, _)| *at <= seen)
            .and_then(|(_, held)| held.clone())
    }

    fn write(&self, world: &World, presented: Option<&Token>, held: Option<Held>) {
        let newest = self.newest();
        if newest.as_ref().map(|held| held.token.tag) == presented.map(|token| token.tag) {
            if let Some(held) = &held {
                let mut ledger = world.ledger();
                ledger.holds(held.session, &held.token, self.is_alone());
            }
            self.kept.lock().unwrap().push((world.elapsed(), held));
        }
    }
}

/// Acts as one tab of the client.
pub(crate) async fn tab(world: Arc<World>, jar: Arc<Jar>, steps: usize, first: bool) {
    for step in 0..steps {
        // A page that is open when the layer is installed, and needs an access token.
        if step == 0
            && jar.newest().is_some_and(|held| held.token.is_foreign())
            && world.one_in(2, 1)
        {
            world.pause(0, 200).await;
        } else {
            if jar.copied {
                age(&world).await;
            } else {
                think(&world).await;
            }
        }
        match jar.read(&world) {
            None if first => log_in(&world, &jar).await,
            None => {}
            Some(held) if first && world.one_in(10, 1) => leave(&world, &jar, &held).await,
            Some(_) => {
                let refreshed = refresh(&world, &jar).await;
                if refreshed && world.one_in(2, 1) {
                    visit(&world, &jar).await;
                }
            }
        }
    }
}

/// Acts as another process of the client: it copies the token of the first one, and from then on
/// keeps its own. When it ends, its token is lost.
pub(crate) async fn process(world: Arc<World>, first: Arc<Jar>, jar: Arc<Jar>, steps: usize) {
    for _ in 0..20 {
        world.pause(0, 20_000).await;
        if let Some(held) = first.newest() {
            jar.write(&world, None, Some(held));
            tab(Arc::clone(&world), Arc::clone(&jar), steps, false).await;
            jar.kept.lock().unwrap().push((world.elapsed(), None));
            return;
        }
    }
}

/// Uses the access token at a resource server.
pub(crate) async fn visit(world: &World, jar: &Jar) {
    if let Some(pass) = jar.newest().and_then(|held| held.pass) {
        access::present(world, jar.caller.name, &pass).await;
    }
}

/// Waits until the access token is needed again: immediately, after a while, or when the laptop is
/// opened again.
async fn think(world: &World) {
    match world.below(10) {
        0..=2 => world.pause(0, 300).await,
        3..=6 => world.pause(500, 20_000).await,
        7..=8 => world.pause(50_000, 200_000).await,
        _ => world.pause(1_000_000, 20_000_000).await,
    }
}

/// Waits like a process with a private copy: rarely longer than the copy leads to the current
/// token.
async fn age(world: &World) {
    let window = u32::try_from(world.plan.shared_window().as_millis()).unwrap();
    match world.below(40) {
        0..=11 => world.pause(0, 300).await,
        12..=25 => world.pause(500, 20_000).await,
        26..=38 => world.pause(window / 4, window / 5 * 4).await,
        _ => world.pause(window, window * 3).await,
    }
}

pub(crate) async fn log_in(world: &Arc<World>, jar: &Jar) {
    for _ in 0..10 {
        if let Learned::Token(held) = send(world, &jar.caller, &Action::LogIn).await {
            if jar.copied {
                world.ledger().copied(&held.token);
            }
            if jar.keeps {
                world.ledger().kept(&held.token);
            }
            return jar.write(world, None, Some(held));
        }
        world.pause(100, 3000).await;
    }
}

/// Refreshes, and retries until there is a response or the user has lost patience. Returns whether
/// the refresh succeeded.
pub(crate) async fn refresh(world: &Arc<World>, jar: &Jar) -> bool {
    for _ in 0..60 {
        if let Some(refreshed) = attempt(world, jar).await {
            return refreshed;
        }
        // The client returns later, when the replay may have expired.
        if !world.is_calm() && world.one_in(12, 1) {
            return false;
        }
        wait(world).await;
    }
    false
}

/// Refreshes once. Returns `None` if that must be repeated.
async fn attempt(world: &Arc<World>, jar: &Jar) -> Option<bool> {
    let Some(mut held) = jar.read(world) else {
        return Some(false);
    };
    let _guard;
    if held.token.is_foreign() && world.cluster.hands_back() {
        // No layer makes up for a second tab that presents the same token.
        _guard = jar.lock.lock().await;
        match jar.newest() {
            Some(newest) => held = newest,
            None => return Some(false),
        }
    }
    match send(world, &jar.caller, &Action::Refresh(held.token.clone())).await {
        Learned::Token(next) => {
            jar.write(world, Some(&held.token), Some(next));
            return Some(true);
        }
        Learned::Refused(StatusCode::BAD_REQUEST, error) if error == "invalid_grant" => {
            if jar
                .newest()
                .is_some_and(|newest| newest.token.tag == held.token.tag)
            {
                world.ledger().logged_out(held.session);
                jar.write(world, Some(&held.token), None);
                return Some(false);
            }
        }
        Learned::Refused(status, error) if !status.is_server_error() => {
            world.ledger().violation(format!(
                "a conforming client was rejected: {status} {error}"
            ));
        }
        Learned::Nothing | Learned::Done | Learned::Refused(..) => {}
    }
    None
}

/// Waits for the next attempt: for a while, or until the store is back, like clients that a load
/// balancer lets in when instances are healthy again.
async fn wait(world: &World) {
    match store::back_in(world).filter(|_| world.one_in(2, 1)) {
        Some(left) => sleep(left + world.millis(0, 250)).await,
        None => world.pause(50, 2500).await,
    }
}

/// Revokes, perhaps during a refresh. From then on the client holds no token.
async fn leave(world: &Arc<World>, jar: &Arc<Jar>, held: &Held) {
    world.ledger().excuse(held.session, Excuse::Left);
    if world.one_in(2, 1) {
        let (world, jar, token) = (Arc::clone(world), Arc::clone(jar), held.token.clone());
        tokio::spawn(async move { send(&world, &jar.caller, &Action::Refresh(token)).await });
    }
    for _ in 0..10 {
        match send(world, &jar.caller, &Action::Revoke(held.token.clone())).await {
            Learned::Done => {
                // With several tabs or processes, the token may have been too old to end anything.
                if jar.tabs == 1 && !jar.copied && !held.token.is_foreign() {
                    world
                        .ledger()
                        .revoked(held.session, &held.token, world.elapsed());
                }
                break;
            }
            Learned::Nothing | Learned::Token(_) | Learned::Refused(..) => {
                world.pause(100, 3000).await
            }
        }
    }
    jar.write(world, Some(&held.token), None);
    if let Some(pass) = held.pass.as_ref().filter(|_| world.one_in(2, 1)) {
        world.pause(0, 20_000).await;
        access::present(world, jar.caller.name, pass).await;
    }
    // A page that was left open: the ledger checks that its refresh is rejected.
    if world.one_in(2, 1) {
        world.pause(0, 5000).await;
        send(world, &jar.caller, &Action::Refresh(held.token.clone())).await;
    }
}
