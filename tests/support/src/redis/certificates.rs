//! Certificates for TLS between a test and a server.

use std::path::PathBuf;
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use tempfile::TempDir;

/// An authority, a server certificate for `localhost` and 127.0.0.1, and a client certificate.
/// Clones share the files.
#[derive(Clone)]
pub struct Certificates {
    pub ca: String,
    pub server: Identity,
    pub client: Identity,
    directory: Arc<TempDir>,
}

/// A certificate and its key, both in PEM.
#[derive(Clone)]
pub struct Identity {
    pub certificate: String,
    pub key: String,
}

impl Certificates {
    pub fn generate() -> Self {
        Self::generate_for(&["localhost", "127.0.0.1"])
    }

    /// Generates a server certificate for other names.
    pub fn generate_for(names: &[&str]) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut ca = params(&[], "Authority of a test");
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        ca.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let certificate = ca.self_signed(&key).unwrap().pem();
        let issuer = Issuer::new(ca, key);
        let certificates = Self {
            ca: certificate,
            server: issue(&issuer, names, ExtendedKeyUsagePurpose::ServerAuth),
            client: issue(
                &issuer,
                &["client.test"],
                ExtendedKeyUsagePurpose::ClientAuth,
            ),
            directory: Arc::new(tempfile::tempdir().unwrap()),
        };
        let Self {
            ca, server, client, ..
        } = &certificates;
        let files = [
            ("ca.pem", ca),
            ("server.pem", &server.certificate),
            ("server.key", &server.key),
            ("client.pem", &client.certificate),
            ("client.key", &client.key),
        ];
        for (name, text) in files {
            std::fs::write(certificates.file(name), text).unwrap();
        }
        certificates
    }

    /// Returns the path of `ca.pem`, `server.pem`, `server.key`, `client.pem` or `client.key`.
    pub fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }
}

/// Returns the parameters of a certificate with its own name: OpenSSL treats a certificate whose
/// issuer has the same name as self-signed.
fn params(names: &[&str], common_name: &str) -> CertificateParams {
    let names = names
        .iter()
        .map(|&name| name.into())
        .collect::<Vec<String>>();
    let mut params = CertificateParams::new(names).unwrap();
    params
        .distinguished_name
        .push(DnType::CommonName, common_name);
    params
}

fn issue(issuer: &Issuer<'_, KeyPair>, names: &[&str], usage: ExtendedKeyUsagePurpose) -> Identity {
    let key = KeyPair::generate().unwrap();
    let mut params = params(names, names[0]);
    params.extended_key_usages = vec![usage];
    let certificate = params.signed_by(&key, issuer).unwrap().pem();
    Identity {
        certificate,
        key: key.serialize_pem(),
    }
}
