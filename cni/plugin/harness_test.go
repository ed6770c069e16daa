package plugin

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"

	"github.com/weftnet/weft/bench/lab/labtest"
	"github.com/weftnet/weft/cni/delegate/delegatetest"
)

const subnetEnv = "FLANNEL_NETWORK=10.5.0.0/16\nFLANNEL_SUBNET=10.5.1.1/24\nFLANNEL_MTU=1472\nFLANNEL_IPMASQ=true\n"

// What the plugin makes of a network without options and that subnet.
const (
	ipam     = `"ipam":{"dataDir":"%s","ranges":[[{"subnet":"10.5.1.0/24"}]],"routes":[{"dst":"10.5.0.0/16"}],"type":"host-local"}`
	bridging = `"ipMasq":false,"ipam":%s,"isGateway":true,"mtu":1472,"name":"mynet"`
)

const addResult = `{"cniVersion":"1.1.0","interfaces":[{"name":"eth0","sandbox":"x"}],"ips":[{"interface":0,"address":"10.5.1.2/24","gateway":"10.5.1.1"}]}`

// node is a machine with a subnet, bridge and host-local.
type node struct {
	t       *testing.T
	dir     string
	plugins *delegatetest.Plugins
	netns   string
	stdout  bytes.Buffer
	stderr  bytes.Buffer
}

func newNode(t *testing.T) *node {
	t.Helper()
	n := &node{t: t, dir: t.TempDir(), plugins: delegatetest.New(t, "bridge", "host-local")}
	n.netns = "/run/netns/" + labtest.Namespace(t, "cni").Name
	n.plugins.Result(addResult)
	n.write("subnet.env", subnetEnv)
	return n
}

func (n *node) write(name, content string) {
	n.t.Helper()
	path := filepath.Join(n.dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		n.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		n.t.Fatal(err)
	}
}

func (n *node) remove(name string) {
	n.t.Helper()
	if err := os.Remove(filepath.Join(n.dir, name)); err != nil {
		n.t.Fatal(err)
	}
}

// files lists a folder, in one string.
func (n *node) files(name string) string {
	n.t.Helper()
	entries, err := os.ReadDir(filepath.Join(n.dir, name))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		n.t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return strings.Join(names, " ")
}

// call calls the plugin for container c1 and eth0, with a network
// configuration of which in is a part.
func (n *node) call(verb, in string) error {
	n.t.Helper()
	return n.callFor("c1", "eth0", verb, in)
}

func (n *node) callFor(container, ifName, verb, in string) error {
	n.t.Helper()
	if in != "" {
		in = "," + in
	}
	n.stdout.Reset()
	n.stderr.Reset()
	p := &Plugin{Stdout: &n.stdout, Stderr: &n.stderr}
	funcs := p.Funcs(n.t.Context())
	args := &skel.CmdArgs{
		ContainerID: container, IfName: ifName, Netns: n.netns, Path: n.plugins.Dir,
		StdinData: fmt.Appendf(nil, `{"cniVersion":"1.1.0","name":"mynet","type":"weft-cni","subnetFile":"%s/subnet.env","dataDir":"%s/scratch","ipam":{"dataDir":"%s/addresses"}%s}`,
			n.dir, n.dir, n.dir, in),
	}
	return map[string]func(*skel.CmdArgs) error{
		"ADD": funcs.Add, "DEL": funcs.Del, "CHECK": funcs.Check, "GC": funcs.GC, "STATUS": funcs.Status,
	}[verb](args)
}

func (n *node) must(verb, in string) {
	n.t.Helper()
	if err := n.call(verb, in); err != nil {
		n.t.Fatalf("%s: %v", verb, err)
	}
}

// calls are the calls since it was last asked, each in one string.
func (n *node) calls() []string {
	n.t.Helper()
	var all []string
	for _, c := range n.plugins.Calls() {
		all = append(all, fmt.Sprintf("%s %s %s/%s %s", c.Plugin, c.Verb, c.ContainerID, c.IfName, c.Conf))
	}
	return all
}

// bridgeConf is what bridge is called with, further sorted keys before it and
// after it.
func (n *node) bridgeConf(before, after string) string {
	ipam := fmt.Sprintf(ipam, n.dir+"/addresses")[len(`"ipam":`):]
	return "{" + before + fmt.Sprintf(bridging, ipam) + after + `,"type":"bridge"}`
}

// wantError also wants advice.
func wantError(t *testing.T, err error, code uint, parts ...string) {
	t.Helper()
	delegatetest.WantError(t, err, code, parts...)
	var e *types.Error
	if errors.As(err, &e) && e.Details == "" {
		t.Errorf("error %q does not say what to do", e)
	}
}

func want(t *testing.T, what string, got, want any) {
	t.Helper()
	if g, w := fmt.Sprintf("%q", got), fmt.Sprintf("%q", want); g != w {
		t.Errorf("%s:\n got %s\nwant %s", what, g, w)
	}
}
