//! TLS to a server whose certificate the tests have issued.

use test_support::PATIENCE;
use test_support::announcements::heard;
use test_support::entries::{every_call, random_key};
use test_support::postgres::PostgresServer;
use test_support::redis::Certificates;
use tower_oauth_refresh::store::Store as _;
use tower_oauth_refresh::{PostgresConnectError, PostgresStore};

#[tokio::test]
async fn verify_full_requires_a_certificate_of_a_trusted_authority() {
    let (certificates, others) = (Certificates::generate(), Certificates::generate());
    let server = PostgresServer::start_with_tls(&certificates).await;
    let url = |mode: &str, authority: Option<&Certificates>| {
        let mut url = server.url().replace("disable", mode);
        if let Some(authority) = authority {
            url += &format!("&sslrootcert={}", authority.file("ca.pem").display());
        }
        url
    };
    let connect = |url: String| {
        let builder = PostgresStore::builder(&url).command_timeout(PATIENCE);
        builder.connect()
    };
    for (row, url) in [
        ("another authority", url("verify-full", Some(&others))),
        ("those of the system", url("verify-full", None)),
    ] {
        let error = connect(url).await.expect_err(row);
        assert!(
            matches!(error, PostgresConnectError::Unreachable(_)),
            "{row}: {error:?}"
        );
    }

    let url = url("verify-full", Some(&certificates));
    let store = connect(url.clone()).await.unwrap();
    let other = connect(url).await.unwrap();
    for (call, outcome) in every_call(&store, &random_key()).await {
        outcome.unwrap_or_else(|error| panic!("{call}: {error:?}"));
    }
    let mut announcements = store.announcements().unwrap();
    heard(&other, &mut announcements, "an end").await;
    let plain = "SELECT count(*) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid)
        WHERE NOT ssl AND backend_type = 'client backend' AND pid <> pg_backend_pid()";
    assert_eq!(server.sql(plain), "0", "connections without TLS");
}

#[tokio::test]
async fn verify_full_requires_the_name_of_the_server() {
    let certificates = Certificates::generate_for(&["db.test"]);
    let server = PostgresServer::start_with_tls(&certificates).await;
    let connect = |mode: &str| {
        let (url, file) = (
            server.url().replace("disable", mode),
            certificates.file("ca.pem"),
        );
        let url = format!("{url}&sslrootcert={}", file.display());
        async move { PostgresStore::connect(&url).await }
    };
    let error = connect("verify-full").await.unwrap_err();
    assert!(
        matches!(error, PostgresConnectError::Unreachable(_)),
        "{error:?}"
    );
    connect("verify-ca").await.unwrap();
}

/// A server without TLS is not used instead.
#[tokio::test]
async fn verify_full_rejects_a_server_without_tls() {
    let (certificates, server) = (Certificates::generate(), PostgresServer::start().await);
    let url = server.url().replace("disable", "verify-full");
    let url = format!(
        "{url}&sslrootcert={}",
        certificates.file("ca.pem").display()
    );
    let error = PostgresStore::connect(&url).await.unwrap_err();
    assert!(
        matches!(
            error,
            PostgresConnectError::Unreachable(_) | PostgresConnectError::Unusable(_)
        ),
        "{error:?}"
    );
}

#[tokio::test]
async fn a_client_certificate_is_sent_and_must_have_the_name_of_the_role() {
    let (certificates, others) = (Certificates::generate(), Certificates::generate());
    let server = PostgresServer::start_with_tls(&certificates).await;
    for role in ["client.test", "other.test"] {
        server.sql(&format!("CREATE ROLE \"{role}\" LOGIN"));
        server.sql(&format!("GRANT CREATE ON DATABASE postgres TO \"{role}\""));
    }
    let connect = |role: &str, client: Option<[&Certificates; 2]>| {
        let url = server.url_as(role).replace("disable", "verify-full");
        let authority = certificates.file("ca.pem");
        let mut url = format!("{url}&sslrootcert={}", authority.display());
        if let Some([certificate, key]) = client {
            let (certificate, key) = (certificate.file("client.pem"), key.file("client.key"));
            url += &format!(
                "&sslcert={}&sslkey={}",
                certificate.display(),
                key.display()
            );
        }
        let builder = PostgresStore::builder(&url).command_timeout(PATIENCE);
        builder.connect()
    };
    let own = Some([&certificates; 2]);
    for (row, role, client) in [
        ("no certificate", "client.test", None),
        ("the certificate of another role", "other.test", own),
    ] {
        let error = connect(role, client).await.expect_err(row);
        assert!(
            matches!(error, PostgresConnectError::Authentication(_)),
            "{row}: {error:?}"
        );
    }
    for (row, client) in [
        ("the certificate of another authority", [&others; 2]),
        ("another key", [&certificates, &others]),
    ] {
        let error = connect("client.test", Some(client)).await.expect_err(row);
        assert!(
            matches!(
                error,
                PostgresConnectError::Unreachable(_) | PostgresConnectError::Unusable(_)
            ),
            "{row}: {error:?}"
        );
    }

    let store = connect("client.test", own).await.unwrap();
    let other = connect("client.test", own).await.unwrap();
    for (call, outcome) in every_call(&store, &random_key()).await {
        outcome.unwrap_or_else(|error| panic!("{call}: {error:?}"));
    }
    let mut announcements = store.announcements().unwrap();
    heard(&other, &mut announcements, "an end").await;
    let named = "SELECT count(*) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid)
        WHERE usename = 'client.test' AND client_dn IS DISTINCT FROM '/CN=client.test'";
    assert_eq!(
        server.sql(named),
        "0",
        "connections without the certificate"
    );
}
