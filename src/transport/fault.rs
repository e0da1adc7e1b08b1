//! Why a connection failed, in the same words each time, unlike the errors' own.

use std::error::Error;
use std::io;

use rustls::CertificateError;

/// What is wrong with a certificate, and what can be done.
pub(crate) fn certificate_fault(fault: &CertificateError) -> Option<&'static str> {
    use CertificateError as Fault;
    Some(match fault {
        Fault::Expired | Fault::ExpiredContext { .. } => "its certificate has expired",
        Fault::NotValidYet | Fault::NotValidYetContext { .. } => "its certificate is not valid yet",
        Fault::NotValidForName | Fault::NotValidForNameContext { .. } => {
            "its certificate is for another name (tls_config.server_name says which to expect)"
        }
        // The latter where its authority has the name of one that is trusted, as one that was made anew has.
        Fault::UnknownIssuer | Fault::BadSignature => {
            "its certificate is of no authority that is trusted (tls_config.ca_file says which are)"
        }
        _ => return None,
    })
}

/// The innermost cause; of an error of the system only its kind (`connection refused`).
pub(crate) fn root_cause(error: &(dyn Error + 'static)) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    match cause.downcast_ref::<io::Error>() {
        Some(io) if io.raw_os_error().is_some() => io.kind().to_string(),
        _ => cause.to_string(),
    }
}

/// What is wrong with the other end's certificate, if that is behind an error of a client.
pub(crate) fn certificate_fault_behind(error: &(dyn Error + 'static)) -> Option<&'static str> {
    let mut next = Some(error);
    while let Some(error) = next {
        let io = error.downcast_ref::<io::Error>();
        // What an io::Error wraps is not its source, but the error itself.
        let inner = io
            .and_then(|io| io.get_ref())
            .map(|it| it as &(dyn Error + 'static));
        let tls = inner.unwrap_or(error).downcast_ref::<rustls::Error>();
        if let Some(rustls::Error::InvalidCertificate(fault)) = tls {
            return certificate_fault(fault);
        }
        next = inner.or_else(|| error.source());
    }
    None
}
