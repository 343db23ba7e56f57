"""What the node consists of: the configuration of each daemon and how it is started, in the order
they start.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

from tools import processes
from tools.kubernetes import certificates, network
from tools.kubernetes.build import COMPONENTS, PAUSE_IMAGE
from tools.machine import Cannot, find_program

NODE = "node"
CONTEXT = "pipeline-steps"


class Ports(NamedTuple):
    """Ports of the node on this machine."""

    api: int
    kubelet: int
    dns: int
    etcd: int
    etcd_peer: int
    dns_ready: int
    proxy_health: int
    proxy_metrics: int
    kubelet_health: int


class Layout(NamedTuple):
    """Where a node lives: its run folder, the built programs, its ports and the machine's address."""

    folder: Path
    programs: Path
    ports: Ports
    host: str

    @property
    def pki(self) -> Path:
        return self.folder / "pki"

    @property
    def kubeconfig(self) -> Path:
        return self.folder / "kubeconfig"

    @property
    def server(self) -> str:
        return f"https://127.0.0.1:{self.ports.api}"

    @property
    def containerd(self) -> Path:
        return self.folder / "containerd/containerd.sock"

    def program(self, component: str) -> str:
        return f"{self.folder}/bin/{component}"


def prepare(node: Layout) -> None:
    """Everything on disk before the first daemon: folders, certificates, kubeconfig, all
    configurations.
    """
    for name in ("bin", "containerd", "cni", "certs.d", "kubelet", "etcd"):
        (node.folder / name).mkdir()
    for component in COMPONENTS:
        (node.folder / "bin" / component).symlink_to(node.programs / "node")
    names = [f"IP:{address}" for address in ("127.0.0.1", node.host, network.API)]
    services = (
        "kubernetes",
        "kubernetes.default",
        "kubernetes.default.svc",
        "kubernetes.default.svc.cluster.local",
    )
    certificates.make(node.pki, [*names, "DNS:localhost", *(f"DNS:{name}" for name in services)])
    node.kubeconfig.touch(mode=0o600)
    node.kubeconfig.write_text(certificates.kubeconfig(node.pki, node.server, CONTEXT))
    (node.folder / "cni/10-node.conflist").write_text(json.dumps(pod_network(node), indent=2))
    (node.folder / "containerd/config.toml").write_text(containerd_configuration(node))
    # JSON is YAML, so these need no YAML writer
    (node.folder / "kubelet.yaml").write_text(json.dumps(kubelet_configuration(node), indent=2))
    (node.folder / "kube-proxy.yaml").write_text(json.dumps(proxy_configuration(node), indent=2))
    (node.folder / "Corefile").write_text(dns_configuration(node))
    (node.folder / "resolv.conf").write_text("\n".join(name_servers()) + "\n")


def name_servers() -> list[str]:
    """The machine's name server lines, without its search domains: names of the cluster are not
    asked there.
    """
    try:
        lines = Path("/etc/resolv.conf").read_text().splitlines()
    except OSError:
        return []
    return [line for line in lines if line.startswith("nameserver ")]


def pod_network(node: Layout) -> dict[str, object]:
    """ptp and not bridge: traffic between pods of one bridge skips the rules of services without
    br_netfilter. firewall: a docker engine on this machine drops what is forwarded and not
    explicitly accepted."""
    addresses = {
        "type": "host-local",
        "dataDir": f"{node.folder}/addresses",
        "ranges": [[{"subnet": network.PODS}]],
        "routes": [{"dst": "0.0.0.0/0"}],
    }
    plugins = [
        {"type": "ptp", "ipMasq": True, "ipam": addresses},
        {"type": "firewall"},
        {"type": "portmap", "capabilities": {"portMappings": True}},
    ]
    return {"cniVersion": "0.4.0", "name": network.NAME, "plugins": plugins}


def containerd_configuration(node: Layout) -> str:
    """All places inside the run folder; no AppArmor, whose profile would stay in the kernel."""
    return f"""\
version = 2
root = "{node.folder}/containerd/root"
state = "{node.folder}/containerd/state"
[grpc]
  address = "{node.containerd}"
[plugins."io.containerd.internal.v1.opt"]
  path = "{node.folder}/containerd/opt"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{PAUSE_IMAGE}"
  restrict_oom_score_adj = true
  disable_apparmor = true
  netns_mounts_under_state_dir = true
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{plugin_folder()}"
    conf_dir = "{node.folder}/cni"
  [plugins."io.containerd.grpc.v1.cri".registry]
    config_path = "{node.folder}/certs.d"
"""


def plugin_folder() -> str:
    """Where the CNI plugins are: Debian's place, or the one upstream documents."""
    for place in ("/usr/lib/cni", "/opt/cni/bin"):
        if Path(place, "ptp").exists():
            return place
    raise Cannot("no CNI plugins: python3 tools/programs/programs.py packages kubernetes")


def kubelet_configuration(node: Layout) -> dict[str, object]:
    """Settings that also hold where the machine is itself a container: no priorities, no limits on
    pods as a whole.
    """
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": False},
            "x509": {"clientCAFile": f"{node.pki}/ca.crt"},
        },
        "authorization": {"mode": "AlwaysAllow"},
        "tlsCertFile": f"{node.pki}/serving.crt",
        "tlsPrivateKeyFile": f"{node.pki}/serving.key",
        "address": node.host,
        "port": node.ports.kubelet,
        "healthzPort": node.ports.kubelet_health,
        "containerRuntimeEndpoint": f"unix://{node.containerd}",
        "cgroupDriver": "cgroupfs",
        "cgroupsPerQOS": False,
        "enforceNodeAllocatable": [],
        "failSwapOn": False,
        "failCgroupV1": False,
        "oomScoreAdj": 0,
        "localStorageCapacityIsolation": False,
        "featureGates": {"KubeletInUserNamespace": True},
        "clusterDNS": [network.DNS],
        "clusterDomain": "cluster.local",
        "resolvConf": f"{node.folder}/resolv.conf",
        "evictionHard": {
            "nodefs.available": "1%",
            "imagefs.available": "1%",
            "memory.available": "100Mi",
        },
        "imageGCHighThresholdPercent": 100,
        "podLogsDir": f"{node.folder}/pod-logs",
        "volumePluginDir": f"{node.folder}/kubelet/volume-plugins",
        "serializeImagePulls": False,
    }


def proxy_configuration(node: Layout) -> dict[str, object]:
    return {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        # else it waits 30 s for a node named like the machine, and until then no service works
        "hostnameOverride": NODE,
        "mode": "iptables",
        "iptables": {"localhostNodePorts": False, "minSyncPeriod": "50ms"},
        "clusterCIDR": network.PODS,
        "clientConnection": {"kubeconfig": str(node.kubeconfig)},
        "healthzBindAddress": f"127.0.0.1:{node.ports.proxy_health}",
        "metricsBindAddress": f"127.0.0.1:{node.ports.proxy_metrics}",
        "conntrack": {
            "maxPerCore": 0,
            "min": 0,
            "tcpEstablishedTimeout": "0s",
            "tcpCloseWaitTimeout": "0s",
        },
        "oomScoreAdj": 0,
    }


def dns_configuration(node: Layout) -> str:
    """Names of the cluster; all others go to the machine's name servers, when it has any."""
    forward = f"\n  forward . {node.folder}/resolv.conf" if name_servers() else ""
    return f"""\
.:{node.ports.dns} {{
  errors
  ready 127.0.0.1:{node.ports.dns_ready}
  kubernetes cluster.local in-addr.arpa {{
    kubeconfig {node.kubeconfig} {CONTEXT}
  }}{forward}
  cache 5
}}
"""


def start_store_and_api(node: Layout, daemons: processes.Daemons) -> None:
    ports, pki = node.ports, node.pki
    etcd = f"http://127.0.0.1:{ports.etcd}"
    daemons.start("etcd", [
        "etcd", "--data-dir", f"{node.folder}/etcd", "--listen-client-urls", etcd, "--advertise-client-urls", etcd,
        "--listen-peer-urls", f"http://127.0.0.1:{ports.etcd_peer}", "--unsafe-no-fsync",
    ])  # fmt: skip
    daemons.start("kube-apiserver", [
        node.program("kube-apiserver"), f"--etcd-servers={etcd}", f"--secure-port={ports.api}",
        f"--advertise-address={node.host}", f"--tls-cert-file={pki}/serving.crt",
        f"--tls-private-key-file={pki}/serving.key", f"--token-auth-file={pki}/tokens.csv", "--anonymous-auth=false",
        f"--cert-dir={node.folder}/api", "--authorization-mode=RBAC", "--allow-privileged=true",
        "--service-account-issuer=https://kubernetes.default.svc",
        f"--service-account-key-file={pki}/accounts.pub", f"--service-account-signing-key-file={pki}/accounts.key",
        f"--service-cluster-ip-range={network.SERVICES}", "--kubelet-preferred-address-types=InternalIP",
        f"--kubelet-certificate-authority={pki}/ca.crt", f"--kubelet-client-certificate={pki}/kubelet-client.crt",
        f"--kubelet-client-key={pki}/kubelet-client.key",
    ])  # fmt: skip


def start_containerd(node: Layout, daemons: processes.Daemons) -> None:
    # containerd looks for its shims, runc and iptables on PATH, which a user's may lack
    path = {"PATH": os.environ.get("PATH", "") + ":/usr/sbin:/sbin:/usr/bin:/bin"}
    containerd = find_program("containerd")
    daemons.start(
        "containerd", [str(containerd), "-c", f"{node.folder}/containerd/config.toml"], path
    )


def container_ids(folder: Path) -> list[str]:
    """Ids of all containers and pod sandboxes of a run folder that left something, those of a
    killed run too.
    """
    runtime = "state/io.containerd.runtime.v2.task/k8s.io"
    cri = "root/io.containerd.grpc.v1.cri"
    places = [
        folder / "containerd" / place
        for place in (runtime, f"{cri}/sandboxes", f"{cri}/containers")
    ]
    remaining = {path.name for place in places for path in place.glob("*")}
    for state in Path("/run/containerd/runc/k8s.io").glob("*/state.json"):
        if f'"{folder}/' in state.read_text(errors="replace"):
            remaining.add(state.parent.name)
    return sorted(remaining)


def remove_traces(folder: Path, containers: list[str]) -> None:
    """Remove what kubelet and runc keep outside the run folder: links to logs, a socket, states,
    control groups.
    """
    for container in containers:
        processes.remove_cgroups(f"k8s.io/{container}")
        shutil.rmtree(f"/run/containerd/runc/k8s.io/{container}", ignore_errors=True)
    for link in Path("/var/log/containers").glob("*"):
        if link.is_symlink() and str(link.readlink()).startswith(f"{folder}/"):
            link.unlink()
    kubelet = Path("/var/lib/kubelet/device-plugins/kubelet.sock")
    if not processes.connects(kubelet):
        kubelet.unlink(missing_ok=True)
    processes.remove_empty_cgroup("k8s.io")
    processes.remove_common_traces(
        "/run/runc", "/run/containerd/runc/k8s.io", "/var/log/containers", str(kubelet.parent),
        "/var/lib/cni/results", "/opt/containerd/bin", "/opt/containerd/lib",
    )  # fmt: skip


def import_pause_image(node: Layout) -> None:
    completed = subprocess.run(
        ["ctr", "-a", str(node.containerd), "-n", "k8s.io", "images", "import", f"{node.programs}/pause.tar"],
        capture_output=True, text=True,
    )  # fmt: skip
    if completed.returncode:
        raise Cannot(f"containerd does not take the pause image: {completed.stderr.strip()}")


def start_the_rest(node: Layout, daemons: processes.Daemons) -> None:
    """Controllers, scheduler, kubelet, proxy, DNS: they need the API server and containerd, not
    each other.
    """
    path = {"PATH": os.environ.get("PATH", "") + ":/usr/sbin:/sbin:/usr/bin:/bin"}
    login = f"--kubeconfig={node.kubeconfig}"
    daemons.start("kube-controller-manager", [
        node.program("kube-controller-manager"), login, "--leader-elect=false", "--secure-port=0",
        f"--flex-volume-plugin-dir={node.folder}/kubelet/volume-plugins",
        f"--root-ca-file={node.pki}/ca.crt", f"--service-account-private-key-file={node.pki}/accounts.key",
    ])  # fmt: skip
    daemons.start(
        "kube-scheduler",
        [node.program("kube-scheduler"), login, "--leader-elect=false", "--secure-port=0"],
    )
    daemons.start("kubelet", [
        node.program("kubelet"), login, f"--config={node.folder}/kubelet.yaml", f"--root-dir={node.folder}/kubelet",
        f"--hostname-override={NODE}", f"--node-ip={node.host}", f"--cert-dir={node.folder}/kubelet/pki",
    ], path)  # fmt: skip
    daemons.start(
        "kube-proxy", [node.program("kube-proxy"), f"--config={node.folder}/kube-proxy.yaml"], path
    )
    daemons.start("coredns", [node.program("coredns"), "-conf", f"{node.folder}/Corefile"])


def allow_plain_http(folder: Path, registries: list[str]) -> list[str]:
    """Let containerd pull from these registries (host:port) without TLS, from its next pull on; all
    such now.
    """
    for registry in registries:
        place = folder / "certs.d" / registry
        place.mkdir(exist_ok=True)
        address = f"http://{registry}"
        (place / "hosts.toml").write_text(
            f'server = "{address}"\n[host."{address}"]\n  capabilities = ["pull", "resolve"]\n'
        )
    return sorted(path.name for path in (folder / "certs.d").iterdir())
