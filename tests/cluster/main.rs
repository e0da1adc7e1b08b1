//! The adapter in a real cluster: a real control plane, the real HPA controller and kubectl, and the built program.
//!
//! Nothing here is a mock except what needs hardware: kwok stands in for the kubelets, and the exporters' pages are written
//! by the tests. The tests need the programs that `tests/controlplane/build.sh` builds, so they are ignored by default.

mod control_plane;
mod pki;
mod process;
mod wait;

use crate::control_plane::control_plane;

#[tokio::test]
#[ignore = "needs the control plane: make test"]
async fn smoke() {
    let plane = control_plane().await;
    println!(
        "{}",
        plane
            .kubectl(&["get", "nodes", "-o", "wide"])
            .await
            .unwrap()
    );
    println!("{}", plane.logs());
}
