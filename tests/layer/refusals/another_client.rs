//! A token of another client.

use super::*;

#[tokio::test(start_paused = true)]
async fn a_token_of_another_client_is_rejected_and_not_consumed() {
    let rows: [Row; 24] = [
        (
            "of no grant",
            |f| present(patched(&f.token, |bytes| bytes[..12].fill(9))),
            GRANT,
            Some(EventKind::Unknown),
        ),
        (
            "all zeros",
            |f| present(patched(&f.token, |bytes| bytes.fill(0))),
            GRANT,
            Some(EventKind::Unknown),
        ),
        (
            "of another client",
            |f| present(&f.others),
            GRANT,
            Some(EventKind::ClientMismatch),
        ),
        (
            "presented by another client",
            |f| post("/token", &refresh_form("other", &f.token)),
            GRANT,
            { Some(EventKind::ClientMismatch) },
        ),
        (
            "presented by a client id in another case",
            |f| post("/token", &refresh_form("APP", &f.token)),
            GRANT,
            { Some(EventKind::ClientMismatch) },
        ),
        (
            "presented by another client, by Basic",
            |f| by_basic(&f.token, "other:secret"),
            GRANT,
            { Some(EventKind::ClientMismatch) },
        ),
        (
            "with a made-up secret",
            |f| present(forged(&f.token, 0)),
            GRANT,
            Some(EventKind::Forged),
        ),
        (
            "with one bit of the secret flipped",
            |f| present(patched(&f.token, |bytes| bytes[47] ^= 1)),
            GRANT,
            { Some(EventKind::Forged) },
        ),
        (
            "with a made-up next generation",
            |f| present(forged(&f.token, 1)),
            GRANT,
            Some(EventKind::Ahead),
        ),
        (
            "with the real secret and the next generation",
            |f| present(patched(&f.token, |bytes| bytes[15] = 1)),
            GRANT,
            { Some(EventKind::Ahead) },
        ),
        (
            "with a made-up last generation",
            |f| present(forged(&f.token, u32::MAX)),
            GRANT,
            Some(EventKind::Ahead),
        ),
        (
            "of the inner service",
            |_| present("upstream-0-0"),
            GRANT,
            Some(EventKind::Unknown),
        ),
        (
            "one character too short",
            |f| present(&f.token[..74]),
            GRANT,
            Some(EventKind::Unknown),
        ),
        (
            "one character too long",
            |f| present(format!("{}A", f.token)),
            GRANT,
            Some(EventKind::Unknown),
        ),
        (
            "of another prefix",
            |f| present(f.token.replacen("rt_", "at_", 1)),
            GRANT,
            Some(EventKind::Unknown),
        ),
        (
            "without its checksum",
            |f| present(&f.token[..67]),
            GRANT,
            Some(EventKind::Unknown),
        ),
        (
            "with another checksum",
            |f| present(format!("{}AAAAAAAA", &f.token[..67])),
            GRANT,
            Some(EventKind::Unknown),
        ),
        (
            "without its prefix",
            |f| present(&f.token[3..]),
            GRANT,
            Some(EventKind::Unknown),
        ),
        (
            "with its prefix in capitals",
            |f| present(f.token.replacen("rt_", "RT_", 1)),
            GRANT,
            { Some(EventKind::Unknown) },
        ),
        (
            "with a trailing space",
            |f| present(format!("{} ", f.token)),
            GRANT,
            Some(EventKind::Unknown),
        ),
        (
            "with a leading line feed",
            |f| present(format!("\n{}", f.token)),
            GRANT,
            Some(EventKind::Unknown),
        ),
        (
            "padded",
            |f| present(format!("{}==", &f.token[..73])),
            GRANT,
            Some(EventKind::Unknown),
        ),
        (
            "in another alphabet",
            |f| present(format!("{}/+", &f.token[..73])),
            GRANT,
            Some(EventKind::Unknown),
        ),
        (
            "very long",
            |_| present("rt_".repeat(10_000)),
            GRANT,
            Some(EventKind::Unknown),
        ),
    ];
    refuse_all(&rows).await;
}
