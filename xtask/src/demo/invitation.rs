//! What to try while the demo stays up.

use crate::shell::tell;
use crate::testbed::Node;
use crate::testbed::clients::mysql;
use crate::testbed::data_centre::{DataCentre, NAT_ADDRESS, TUNNEL_ADDRESS};
use crate::testbed::servers::mariadb::{PASSWORD, USER};
use crate::workspace;

pub(super) fn print(data_centre: &DataCentre) {
    tell(
        "\nEvery step did what it shows. The data centre stays up until Ctrl-C; to try, from another terminal:\n",
    );
    let client = format!("ip netns exec {}", data_centre.client.namespace());
    tell(format_args!("  {client} curl http://{NAT_ADDRESS}/"));
    tell(format_args!("  {client} curl http://{TUNNEL_ADDRESS}/"));
    tell(format_args!("  {client} mariadb -h {NAT_ADDRESS} -u{USER} -p{PASSWORD} -e '{}'", mysql::QUERY));
    if let Some(node) = data_centre.nodes.last() {
        let evenkeel = evenkeel(node);
        tell(format_args!("  {evenkeel} status --run-dir {}", node.run_dir().display()));
        tell(format_args!("  $EDITOR {}", node.configuration_file().display()));
        let enter = format!("ip netns exec {}", node.host().namespace());
        tell(format_args!("  {enter} curl http://127.0.0.1:9620/metrics"));
    }
    tell("");
}

fn evenkeel(node: &Node) -> String {
    let binary =
        workspace::evenkeel().map_or_else(|_| "evenkeel".to_owned(), |path| path.display().to_string());
    format!("nsenter --net=/run/netns/{} {binary}", node.host().namespace())
}
