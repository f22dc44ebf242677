//! TLS: verification of the certificates of registries.
//!
//! webpki verifies certificates, with one exception. Many private registries present a self-signed
//! certificate made with `openssl req -x509`, which is that of an authority (`CA:TRUE`). webpki
//! always refuses such a certificate for a server. curl and skopeo accept it if it is trusted
//! itself. So plywood accepts it if the user has set exactly this certificate for this registry.

use std::fmt;
use std::io::{Read, Write};
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{
    CertificateError, ClientConfig, ClientConnection, DigitallySignedStruct, RootCertStore, SignatureScheme,
    StreamOwned,
};
use ureq::unversioned::transport::{
    Buffers, ConnectionDetails, Connector, Either, LazyBuffers, NextTimeout, Transport, TransportAdapter,
};

use super::certificate::ClientCertificate;
use super::error::is_authority;

/// Encrypts connections to hosts that use HTTPS.
pub(super) struct Tls {
    config: Arc<ClientConfig>,
}

impl Tls {
    /// Trusts `own`, the certificates set for the host, and those of the `system`. Presents
    /// `client`.
    pub(super) fn new(
        own: Vec<CertificateDer<'static>>,
        system: &[CertificateDer<'static>],
        client: Option<ClientCertificate>,
    ) -> Result<Self, rustls::Error> {
        let provider = Arc::new(ring::default_provider());
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(own.iter().chain(system).cloned());
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()?;
        let builder = match Verifier::new(own, &roots, provider) {
            Some(verifier) => builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier)),
            None => builder.with_root_certificates(roots),
        };
        let config = match client {
            Some(ClientCertificate { chain, key }) => builder.with_client_auth_cert(chain, key),
            None => Ok(builder.with_no_client_auth()),
        };
        Ok(Self { config: Arc::new(config?) })
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tls")
    }
}

impl<In: Transport> Connector<In> for Tls {
    type Out = Either<In, Encrypted>;

    fn connect(
        &self,
        details: &ConnectionDetails<'_>,
        chained: Option<In>,
    ) -> Result<Option<Self::Out>, ureq::Error> {
        let Some(transport) = chained else { return Ok(None) };
        if !details.needs_tls() || transport.is_tls() {
            return Ok(Some(Either::A(transport)));
        }
        // An IPv6 address has brackets in a URL, and none in a certificate.
        let host = details.uri.host().unwrap_or_default().trim_matches(['[', ']']);
        let name = ServerName::try_from(host.to_owned()).map_err(|_| ureq::Error::HostNotFound)?;
        let mut connection = ClientConnection::new(Arc::clone(&self.config), name)?;
        let mut socket = TransportAdapter::new(transport.boxed(), Arc::clone(&details.current_time));
        socket.set_timeout(details.timeout);
        connection.complete_io(&mut socket)?;
        let (input, output) = (details.config.input_buffer_size(), details.config.output_buffer_size());
        let stream = StreamOwned::new(connection, socket);
        Ok(Some(Either::B(Encrypted { buffers: LazyBuffers::new(input, output), stream })))
    }
}

pub(super) struct Encrypted {
    buffers: LazyBuffers,
    stream: StreamOwned<ClientConnection, TransportAdapter>,
}

impl Transport for Encrypted {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), ureq::Error> {
        self.stream.get_mut().set_timeout(timeout);
        Ok(self.stream.write_all(&self.buffers.output()[..amount])?)
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, ureq::Error> {
        self.stream.get_mut().set_timeout(timeout);
        let amount = self.stream.read(self.buffers.input_append_buf())?;
        self.buffers.input_appended(amount);
        Ok(amount > 0)
    }

    fn is_open(&mut self) -> bool {
        self.stream.get_mut().get_mut().is_open()
    }

    fn is_tls(&self) -> bool {
        true
    }
}

impl fmt::Debug for Encrypted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Encrypted")
    }
}

/// The verifier of webpki, which also accepts a certificate that is set for the registry itself.
#[derive(Debug)]
struct Verifier {
    own: Vec<CertificateDer<'static>>,
    webpki: Arc<WebPkiServerVerifier>,
}

impl Verifier {
    /// Returns `None` if no certificate is set for the registry. Then webpki alone decides.
    fn new(
        own: Vec<CertificateDer<'static>>,
        roots: &RootCertStore,
        provider: Arc<CryptoProvider>,
    ) -> Option<Self> {
        let roots = Arc::new(roots.clone());
        // This fails only without roots. If a certificate of the registry could be parsed, there is
        // one.
        let webpki = WebPkiServerVerifier::builder_with_provider(roots, provider).build().ok()?;
        (!own.is_empty()).then_some(Self { own, webpki })
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        shown: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        match self.webpki.verify_server_cert(shown, chain, name, ocsp, now) {
            // When webpki reports this error, it has checked the dates of the certificate, but not
            // yet its name.
            Err(rustls::Error::InvalidCertificate(CertificateError::Other(reason)))
                if is_authority(&reason) && self.own.iter().any(|own| own == shown) =>
            {
                verify_server_name(&ParsedCertificate::try_from(shown)?, name)?;
                Ok(ServerCertVerified::assertion())
            }
            verified => verified,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        shown: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.webpki.verify_tls12_signature(message, shown, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        shown: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.webpki.verify_tls13_signature(message, shown, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.webpki.supported_verify_schemes()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rustls::pki_types::pem::PemObject;

    use super::*;

    /// Two certificates for `lab.example`, of 2026 to 2036, as `openssl req -x509` makes them.
    const LAB: &str = "\
-----BEGIN CERTIFICATE-----
MIIBiTCCAS+gAwIBAgIUVKFtLiofhVmuK+vqQtm72U3IrfwwCgYIKoZIzj0EAwIw
DjEMMAoGA1UEAwwDbGFiMB4XDTI2MTEzMDEyNDU1OVoXDTM2MTEyNzEyNDU1OVow
DjEMMAoGA1UEAwwDbGFiMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEyF29Is4N
w8hjoIC/IuAvWURyFALOoNTtzN5dVstWDIkKLX4+P1vPAdQsdjqHE7F07rVUahmy
JhPQweyXwfypxaNrMGkwHQYDVR0OBBYEFMvgfjaILJ2R22F3bisTT9JwMwlfMB8G
A1UdIwQYMBaAFMvgfjaILJ2R22F3bisTT9JwMwlfMA8GA1UdEwEB/wQFMAMBAf8w
FgYDVR0RBA8wDYILbGFiLmV4YW1wbGUwCgYIKoZIzj0EAwIDSAAwRQIhAPl8lOZ8
ukYj+Z8Wb0Yip2BjkzhcU7O52U9hj1W+kGKzAiAOM42oAOhSB7nSvdQm05qzUzEo
t/LdyJTttOaYYp1bPw==
-----END CERTIFICATE-----";
    const OTHER: &str = "\
-----BEGIN CERTIFICATE-----
MIIBiTCCAS+gAwIBAgIUG4U54S228PW7UzmRJWECoNuKbzYwCgYIKoZIzj0EAwIw
DjEMMAoGA1UEAwwDbGFiMB4XDTI2MTEzMDEyNDU1OVoXDTM2MTEyNzEyNDU1OVow
DjEMMAoGA1UEAwwDbGFiMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE0Ysy22AS
MnRhDnl7aoTqsno02VUsbGIgebk4NyQH1j5axAHldIp5VMhkEGN/0YEZUhn0wSiD
Sv+Iq1PUXX5h8qNrMGkwHQYDVR0OBBYEFN11rmB3WtHAp1Tx3Bs5hA5IR0irMB8G
A1UdIwQYMBaAFN11rmB3WtHAp1Tx3Bs5hA5IR0irMA8GA1UdEwEB/wQFMAMBAf8w
FgYDVR0RBA8wDYILbGFiLmV4YW1wbGUwCgYIKoZIzj0EAwIDSAAwRQIhAOvaSW0A
mTamfiAAaL2Bm0h0egFHRRZLbMhkMzeddKywAiAWBO6N6ADU6SuKFqJf6tctdMiK
YrjZBbc9bIJPQdsuPg==
-----END CERTIFICATE-----";

    #[test]
    fn a_ca_certificate_is_accepted_only_if_it_is_set_for_the_registry() {
        let [lab, other] = [LAB, OTHER].map(|pem| CertificateDer::from_pem_slice(pem.as_bytes()).unwrap());
        // In 2027, and in 2037.
        let (valid, expired) = (1_800_000_000, 2_115_000_000);
        let cases = [
            (vec![lab.clone()], "lab.example", valid, true),
            (vec![other.clone(), lab.clone()], "lab.example", valid, true),
            (vec![other.clone()], "lab.example", valid, false),
            (vec![lab.clone()], "other.example", valid, false),
            (vec![lab.clone()], "lab.example", expired, false),
            (vec![lab.clone()], "lab.example", 1_000_000_000, false),
        ];
        for (own, name, seconds, is_believed) in cases {
            let mut roots = RootCertStore::empty();
            roots.add_parsable_certificates([lab.clone(), other.clone()]);
            let verifier = Verifier::new(own, &roots, Arc::new(ring::default_provider())).unwrap();
            let now = UnixTime::since_unix_epoch(Duration::from_secs(seconds));
            let name = ServerName::try_from(name).unwrap();
            let verified = verifier.verify_server_cert(&lab, &[], &name, &[], now);
            assert_eq!(verified.is_ok(), is_believed, "{name:?} {seconds}: {verified:?}");
        }
    }
}
