//! The Kubernetes client: where the API server is, who we are to it, and how long it may take.
//!
//! Nothing is guessed: a kubeconfig counts only if it was named, else the pod's service account does. `$KUBECONFIG`,
//! `~/.kube/config`, `$HTTPS_PROXY` and kube's debugging variables are not looked at.

use std::path::{Path, PathBuf};
use std::time::Duration;

use kube::config::{InClusterError, KubeConfigOptions, Kubeconfig, KubeconfigError};
use kube::{Client, Config};

/// How long a connection may take to be made.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How long the API server may be silent in the middle of a response.
///
/// A quiet watch is silent until the server ends it, after 290 s in kube-runtime's default, which gives up itself 5 s
/// later; a shorter limit here would cut healthy watches. Other requests have far shorter deadlines of their own.
const READ_TIMEOUT: Duration = Duration::from_secs(310);

/// How long the API server may refuse to take bytes.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);

/// Why there is no Kubernetes client.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// Neither a kubeconfig was named nor is there a pod's service account.
    #[error("no service account found; outside a cluster, name a kubeconfig with --kubeconfig")]
    NotInCluster(#[source] InClusterError),
    /// The kubeconfig is missing, wrong, or names files that are.
    #[error("cannot use the kubeconfig {path}", path = path.display())]
    Kubeconfig {
        /// The file that was named.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: Box<KubeconfigError>,
    },
    /// The kubeconfig turns off verification of the API server. All trust in callers comes over this connection, so
    /// it is refused.
    #[error(
        "the kubeconfig {path} says insecure-skip-tls-verify: give certificate-authority instead",
        path = path.display()
    )]
    Insecure {
        /// The file that was named.
        path: PathBuf,
    },
    /// The configuration was read, but no client can be made from it: bad certificates, a failing credential plugin,
    /// a `proxy-url` (not supported).
    #[error("cannot make a client for the API server {url}")]
    Client {
        /// The API server.
        url: String,
        /// What is wrong.
        #[source]
        source: Box<kube::Error>,
    },
}

/// A client for the API server: that of `kubeconfig`'s current context if a file is given, else the one of the cluster
/// in which this pod runs. Makes no request yet.
///
/// The client never retries by itself: kube's own retries go on for minutes, too long while a caller waits.
///
/// # Errors
/// Every variant of [`ConnectError`]; none heals by itself.
pub async fn connect(kubeconfig: Option<&Path>) -> Result<Client, ConnectError> {
    let mut config = match kubeconfig {
        Some(path) => from_file(path).await?,
        None => Config::incluster_env().map_err(ConnectError::NotInCluster)?,
    };
    config.default_retry = false;
    config.connect_timeout = Some(CONNECT_TIMEOUT);
    config.read_timeout = Some(READ_TIMEOUT);
    config.write_timeout = Some(WRITE_TIMEOUT);
    // Without this, the time that a pooled connection was idle counts as silence.
    config.reset_reader_on_write = true;
    let url = config.cluster_url.to_string();
    // Credential plugins run as blocking child processes inside the conversion.
    tokio::task::spawn_blocking(move || Client::try_from(config))
        .await
        .unwrap_or_else(|error| Err(kube::Error::Service(error.into())))
        .map_err(|source| ConnectError::Client {
            url,
            source: Box::new(source),
        })
}

/// The current context of the kubeconfig at `path`.
async fn from_file(path: &Path) -> Result<Config, ConnectError> {
    let wrong = |source| ConnectError::Kubeconfig {
        path: path.to_owned(),
        source: Box::new(source),
    };
    let file = Kubeconfig::read_from(path).map_err(wrong)?;
    let proxied = names_a_proxy(&file);
    let mut config = Config::from_custom_kubeconfig(file, &KubeConfigOptions::default())
        .await
        .map_err(wrong)?;
    if config.accept_invalid_certs {
        return Err(ConnectError::Insecure {
            path: path.to_owned(),
        });
    }
    if !proxied {
        // Otherwise it comes from $HTTPS_PROXY.
        config.proxy_url = None;
    }
    Ok(config)
}

/// Whether the current context's cluster has a `proxy-url`.
fn names_a_proxy(file: &Kubeconfig) -> bool {
    let context = file
        .contexts
        .iter()
        .find(|context| Some(&context.name) == file.current_context.as_ref())
        .and_then(|context| context.context.as_ref());
    let Some(context) = context else { return false };
    file.clusters
        .iter()
        .filter(|cluster| cluster.name == context.cluster)
        .filter_map(|cluster| cluster.cluster.as_ref())
        .any(|cluster| cluster.proxy_url.is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kubeconfig(cluster: &str) -> (PathBuf, String) {
        let text = format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: it\n\
             contexts: [{{name: it, context: {{cluster: c, user: u}}}}]\n\
             clusters: [{{name: c, cluster: {{{cluster}}}}}]\n\
             users: [{{name: u, user: {{token: t}}}}]\n"
        );
        let name = format!(
            "kubeconfig-{}-{:?}",
            std::process::id(),
            std::thread::current().id()
        );
        let path = std::env::temp_dir().join(name.replace(['(', ')'], ""));
        std::fs::write(&path, &text).expect("a temporary file");
        (path, text)
    }

    #[tokio::test]
    async fn a_named_kubeconfig_gives_a_client_that_reaches_its_server() {
        let api = super::super::fake_api::FakeApi::start().await;
        let (path, _) = kubeconfig(&format!("server: \"{}\"", api.url));
        let client = connect(Some(&path)).await.expect("a client");
        std::fs::remove_file(&path).expect("removed");
        let namespaces = kube::Api::<k8s_openapi::api::core::v1::Namespace>::all(client);
        let list = namespaces.list(&kube::api::ListParams::default()).await;
        assert!(list.expect("a list").items.is_empty());
    }

    #[tokio::test]
    async fn an_unverified_api_server_is_refused() {
        let (path, _) =
            kubeconfig("server: \"https://127.0.0.1:1\", insecure-skip-tls-verify: true");
        let error = connect(Some(&path)).await.err().expect("refused");
        std::fs::remove_file(&path).expect("removed");
        assert!(matches!(error, ConnectError::Insecure { .. }), "{error:?}");
    }

    #[tokio::test]
    async fn a_missing_kubeconfig_is_named_in_the_error() {
        let error = connect(Some(Path::new("/nowhere/kubeconfig")))
            .await
            .err()
            .expect("refused");
        assert_eq!(
            error.to_string(),
            "cannot use the kubeconfig /nowhere/kubeconfig"
        );
    }

    #[test]
    fn only_the_current_cluster_counts_for_a_proxy() {
        let (path, text) =
            kubeconfig("server: \"https://127.0.0.1:1\", proxy-url: \"http://127.0.0.1:2\"");
        std::fs::remove_file(&path).expect("removed");
        assert!(names_a_proxy(&Kubeconfig::from_yaml(&text).expect("YAML")));
        let other = text.replace("name: c,", "name: d,");
        assert!(!names_a_proxy(
            &Kubeconfig::from_yaml(&other).expect("YAML")
        ));
    }
}
