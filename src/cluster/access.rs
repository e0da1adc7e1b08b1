//! What a kubeconfig says of access to a server: whom to trust and as whom to come. Not where it is, which may be elsewhere:
//! prometheus-adapter takes one for its Prometheus, which may stand behind kube-apiserver or another proxy of the cluster.

use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD as BASE64;
use kube::config::{AuthInfo, Cluster, Kubeconfig, KubeconfigError};
use secrecy::{ExposeSecret as _, SecretString};

use crate::config::scrape::http::{Authorization, BasicAuth, HttpConfig, Secret, TlsConfig};

/// Why a kubeconfig gives no access.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    /// The file cannot be read, or is no kubeconfig.
    #[error("cannot use the kubeconfig {path}", path = path.display())]
    Kubeconfig {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: Box<KubeconfigError>,
    },
    /// Its current context is not there, or names what is not.
    #[error("the kubeconfig {path} has no current context with a cluster and a user", path = path.display())]
    Context {
        /// The file.
        path: PathBuf,
    },
    /// It asks for what is not done here.
    #[error("the kubeconfig {path} has {what}, which is not supported here", path = path.display())]
    Unsupported {
        /// The file.
        path: PathBuf,
        /// What it has.
        what: &'static str,
    },
    /// A certificate or key in it is not PEM in base64.
    #[error("{field} of the kubeconfig {path} is not PEM in base64", path = path.display())]
    Data {
        /// The file.
        path: PathBuf,
        /// Which.
        field: &'static str,
    },
}

/// The access that the current context of the kubeconfig at `path` gives. The files that it names are read when they are
/// used, again and again; itself it is read once, now.
///
/// # Errors
/// It cannot be used. Credential plugins, impersonation and proxies are refused and not left out.
pub fn access(path: &Path) -> Result<HttpConfig, AccessError> {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let wrong = |source| AccessError::Kubeconfig {
        path: path.clone(),
        source: Box::new(source),
    };
    let file = Kubeconfig::read_from(&path).map_err(wrong)?;
    let Some((cluster, user)) = current(&file) else {
        return Err(AccessError::Context { path });
    };
    if let Some(what) = unsupported(cluster, user) {
        return Err(AccessError::Unsupported { path, what });
    }
    let pem = |field, data: Option<&str>| {
        let decode = |data| {
            let text = BASE64.decode(data).ok();
            let text = text.and_then(|text| String::from_utf8(text).ok());
            text.ok_or_else(|| AccessError::Data {
                path: path.clone(),
                field,
            })
        };
        data.map(decode).transpose()
    };
    let exposed = |secret: &Option<SecretString>| {
        let secret = secret.as_ref();
        secret.map(|secret| secret.expose_secret().to_owned())
    };
    let ca = cluster.certificate_authority_data.as_deref();
    let ca = pem("certificate-authority-data", ca)?;
    let cert = user.client_certificate_data.as_deref();
    let cert = pem("client-certificate-data", cert)?;
    let key = pem("client-key-data", exposed(&user.client_key_data).as_deref())?;
    // Data count more than files (client-go's `rest/config.go`); of tokens it is the file, which is renewed.
    let else_file = |data: &Option<String>, file: &Option<String>| {
        let file = file.as_ref().filter(|_| data.is_none());
        file.map(PathBuf::from)
    };
    let tls = TlsConfig {
        ca_file: else_file(&ca, &cluster.certificate_authority),
        cert_file: else_file(&cert, &user.client_certificate),
        key_file: else_file(&key, &user.client_key),
        ca,
        cert,
        key: key.map(Secret::from),
        server_name: cluster.tls_server_name.clone().unwrap_or_default(),
        insecure_skip_verify: cluster.insecure_skip_tls_verify == Some(true),
        ..TlsConfig::default()
    };
    let token = exposed(&user.token).filter(|_| user.token_file.is_none());
    let authorization = (token.is_some() || user.token_file.is_some()).then(|| Authorization {
        credentials: token.map(Secret::from),
        credentials_file: user.token_file.as_ref().map(PathBuf::from),
        ..Authorization::default()
    });
    let by_name = user.username.clone().filter(|_| authorization.is_none());
    let basic_auth = by_name.map(|username| BasicAuth {
        username: Some(username),
        password: exposed(&user.password).map(Secret::from),
        ..BasicAuth::default()
    });
    Ok(HttpConfig {
        basic_auth,
        authorization,
        tls,
        ..HttpConfig::default()
    })
}

fn current(file: &Kubeconfig) -> Option<(&Cluster, &AuthInfo)> {
    let name = file.current_context.as_ref()?;
    let context = file.contexts.iter().find(|it| it.name == *name)?;
    let context = context.context.as_ref()?;
    let cluster = file.clusters.iter().find(|it| it.name == context.cluster)?;
    let user = context.user.as_ref()?;
    let user = file.auth_infos.iter().find(|it| it.name == *user)?;
    Some((cluster.cluster.as_ref()?, user.auth_info.as_ref()?))
}

fn unsupported(cluster: &Cluster, user: &AuthInfo) -> Option<&'static str> {
    let found = [
        (user.exec.is_some(), "a credential plugin (exec)"),
        (user.auth_provider.is_some(), "an auth-provider"),
        (user.impersonate.is_some(), "a user to act as (as)"),
        (cluster.proxy_url.is_some(), "a proxy-url"),
    ];
    let found = found.into_iter().find(|(is_there, _)| *is_there);
    found.map(|(_, what)| what)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(name: &str, cluster: &str, user: &str) -> Result<HttpConfig, AccessError> {
        let text = format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: it\n\
             contexts: [{{name: it, context: {{cluster: c, user: u}}}}]\n\
             clusters: [{{name: c, cluster: {{server: 'https://elsewhere', {cluster}}}}}]\n\
             users: [{{name: u, user: {{{user}}}}}]\n"
        );
        let file = format!(
            "gpu-metrics-adapter-{}-{name}.kubeconfig",
            std::process::id()
        );
        let path = std::env::temp_dir().join(file);
        std::fs::write(&path, text).expect("a temporary file");
        let access = access(&path);
        std::fs::remove_file(&path).expect("removed");
        access
    }

    #[test]
    fn what_a_kubeconfig_says_of_access_is_taken_and_its_files_lie_beside_it() {
        let files = read(
            "files",
            "certificate-authority: pki/ca.crt, tls-server-name: metrics.test",
            "tokenFile: /run/token, token: old, client-certificate: /c.crt, client-key: /c.key",
        );
        let files = files.expect("access");
        let folder = std::env::temp_dir();
        assert_eq!(files.tls.ca_file, Some(folder.join("pki/ca.crt")));
        assert_eq!(files.tls.server_name, "metrics.test");
        assert_eq!(files.tls.cert_file, Some("/c.crt".into()));
        assert_eq!(files.tls.key_file, Some("/c.key".into()));
        assert!(!files.tls.insecure_skip_verify);
        let authorization = files.authorization.expect("a token");
        assert_eq!(authorization.credentials_file, Some("/run/token".into()));
        assert_eq!(authorization.credentials, None);

        let data = BASE64.encode("PEM");
        let written = read(
            "data",
            &format!("certificate-authority: /ca, certificate-authority-data: {data}"),
            &format!(
                "username: u, password: p, client-certificate-data: {data}, client-key-data: {data}"
            ),
        );
        let written = written.expect("access");
        assert_eq!(
            (written.tls.ca.as_deref(), &written.tls.ca_file),
            (Some("PEM"), &None)
        );
        let key = written.tls.key.expect("a key");
        assert_eq!(
            (written.tls.cert.as_deref(), key.expose()),
            (Some("PEM"), "PEM")
        );
        let basic = written.basic_auth.expect("a password");
        assert_eq!(basic.username.as_deref(), Some("u"));
        assert_eq!(basic.password.expect("one").expose(), "p");

        let token = read("token", "insecure-skip-tls-verify: true", "token: t");
        let token = token.expect("access");
        assert!(token.tls.insecure_skip_verify);
        let authorization = token.authorization.expect("a token");
        assert_eq!(authorization.credentials.expect("one").expose(), "t");
    }

    #[test]
    fn what_is_not_done_here_is_refused_and_not_left_out() {
        for (cluster, user, reason) in [
            ("", "exec: {command: x}", "a credential plugin (exec)"),
            ("", "as: somebody", "a user to act as (as)"),
            ("proxy-url: 'http://p'", "token: t", "a proxy-url"),
            (
                "certificate-authority-data: '%'",
                "token: t",
                "certificate-authority-data of",
            ),
        ] {
            let error = read("refused", cluster, user).expect_err(reason);
            assert!(error.to_string().contains(reason), "{error}");
        }
        let missing = access(Path::new("/nowhere/kubeconfig")).expect_err("no file");
        assert_eq!(
            missing.to_string(),
            "cannot use the kubeconfig /nowhere/kubeconfig"
        );
    }
}
