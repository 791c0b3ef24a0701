//! A certificate authority of a test.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};

use super::TempDir;

/// A certificate authority, and a directory with what it signed.
pub(crate) struct Authority {
    files: TempDir,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("parameters");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "the authority of a test");
        let key = KeyPair::generate().expect("a key");
        let files = TempDir::new();
        let pem = params.self_signed(&key).expect("a certificate").pem();
        fs::write(files.path().join("ca.pem"), pem).expect("a file");
        Self { files, issuer: Issuer::new(params, key) }
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.files.path().join(name)
    }

    /// Writes `<file>.pem` and `<file>.key`: for `name`, within these years.
    pub(crate) fn sign(&self, file: &str, name: &str, years: (i32, i32)) {
        let (pem, key) = self.signed(name, years);
        self.write(file, &pem, &key);
    }

    /// A certificate for `name` as PEM, within these years, and its key.
    pub(crate) fn signed(&self, name: &str, years: (i32, i32)) -> (String, KeyPair) {
        let (params, key) = (wanted(name, years), KeyPair::generate().expect("a key"));
        (params.signed_by(&key, &self.issuer).expect("a certificate").pem(), key)
    }

    pub(crate) fn write(&self, file: &str, pem: &str, key: &KeyPair) {
        fs::write(self.file(&format!("{file}.pem")), pem).expect("a file");
        let path = self.file(&format!("{file}.key"));
        fs::write(&path, key.serialize_pem()).expect("a file");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("its mode");
    }

    /// The flags of a server with this certificate.
    pub(crate) fn serving(&self, file: &str) -> String {
        let (cert, key) = (self.file(&format!("{file}.pem")), self.file(&format!("{file}.key")));
        format!("--tls-cert {} --tls-key {}", cert.display(), key.display())
    }

    /// The flags of a server that wants certificates of this authority.
    pub(crate) fn wanting(&self) -> String {
        format!("--tls-client-ca {}", self.file("ca.pem").display())
    }

    /// The flag of a client that trusts this authority.
    pub(crate) fn trusting(&self) -> String {
        format!("--peer-ca {}", self.file("ca.pem").display())
    }

    /// The flags of a client that shows this certificate.
    pub(crate) fn showing(&self, file: &str) -> String {
        let (cert, key) = (self.file(&format!("{file}.pem")), self.file(&format!("{file}.key")));
        format!("{} --peer-cert {} --peer-key {}", self.trusting(), cert.display(), key.display())
    }
}

/// Years with a good margin.
pub(crate) const IN_TIME: (i32, i32) = (2020, 2099);

/// A certificate for `name`, from the first day of a year to the last of another.
pub(crate) fn wanted(name: &str, (begin, end): (i32, i32)) -> CertificateParams {
    let mut params = CertificateParams::new(vec![name.to_owned()]).expect("parameters");
    params.not_before = date_time_ymd(begin, 1, 1);
    params.not_after = date_time_ymd(end, 12, 31);
    params
}
