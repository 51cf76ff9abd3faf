//! The channel of announcements.

use bytes::Bytes;
use test_support::entries::random_key;
use test_support::redis::{Fault, RedisServer, Wire};
use tower_oauth_refresh::store::{Announcement, Announcements, Store};

use super::{PATIENCE, connect};

async fn next(announcements: &mut Announcements) -> Announcement {
    let next = tokio::time::timeout(PATIENCE, announcements.next())
        .await
        .expect("it arrives");
    next.expect("the channel stays open")
}

/// The connection of the channel is replaced, too, and subscribers are told that messages may have
/// been lost.
#[tokio::test]
async fn an_out_of_step_channel_is_reopened() {
    let server = RedisServer::start().await;
    let wire = Wire::in_front_of(server.port()).await;
    let (store, other) = (connect(&wire.url()).await, connect(&server.url()).await);
    let mut announcements = store.announcements().unwrap();
    assert_eq!(
        next(&mut announcements).await,
        Announcement::Lost,
        "there was no subscriber before"
    );
    let replies: [&'static [u8]; 6] = [
        b"+PONG
",
        b"$5
hello
",
        b":1
",
        b">3
$7
message
$4
else
$32
0123456789abcdef0123456789abcdef
",
        b"$2000000000
aaaa",
        b">3
$7
message
$8
rt:ended
$2000000000
aaaa",
    ];
    for reply in replies {
        wire.commands();
        wire.once("PING", Fault::Replace(Bytes::from_static(reply)));
        let reply = reply.escape_ascii().to_string();
        assert_eq!(
            next(&mut announcements).await,
            Announcement::Lost,
            "{reply}"
        );
        // The subscription that replaces it.
        while next(&mut announcements).await != Announcement::Lost {}
        let again = wire.commands();
        assert!(
            again
                .iter()
                .any(|words| words[0].eq_ignore_ascii_case(b"SUBSCRIBE")),
            "{reply}: {again:?}"
        );
        let key = random_key();
        other.announce(&[key]).await.unwrap();
        assert_eq!(
            next(&mut announcements).await,
            Announcement::Ended(key),
            "{reply}"
        );
    }
}

#[tokio::test]
async fn a_message_of_invalid_length_is_reported_as_lost() {
    let server = RedisServer::start().await;
    let (store, other) = (connect(&server.url()).await, connect(&server.url()).await);
    let mut announcements = store.announcements().unwrap();
    assert_eq!(
        next(&mut announcements).await,
        Announcement::Lost,
        "there was no subscriber before"
    );
    for length in [1, 31, 32 * 1025, 4 << 20] {
        let publication = vec![b'a'; length];
        server
            .command(&[b"PUBLISH", &b"rt:ended"[..], &publication])
            .await;
        assert_eq!(
            next(&mut announcements).await,
            Announcement::Lost,
            "{length} bytes"
        );
    }
    let keys: Vec<_> = (0..1500).map(|_| random_key()).collect();
    other.announce(&keys[..1000]).await.unwrap();
    for key in &keys[..1000] {
        assert_eq!(next(&mut announcements).await, Announcement::Ended(*key));
    }
    // More keys than fit into one message.
    other.announce(&keys).await.unwrap();
    let mut last = next(&mut announcements).await;
    while last != Announcement::Ended(keys[1499]) {
        last = next(&mut announcements).await;
    }
}
