package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/weftnet/weft/bench/lab"
)

// cniTools are the reference plugins and cnitool, in the versions of
// .ci/cni/go.mod.
var cniTools = []string{"cnitool", "bridge", "ptp", "host-local", "portmap", "bandwidth", "firewall"}

// buildCNITools returns their paths by name. They are in Go's build cache: a
// second run builds nothing and needs no network.
var buildCNITools = sync.OnceValues(func() (map[string]string, error) {
	paths := map[string]string{}
	for _, name := range cniTools {
		cmd := exec.Command("go", "tool", "-modfile=.ci/cni/go.mod", "-n", name)
		cmd.Dir = "../.."
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		out, err := cmd.Output()
		if err != nil {
			return nil, fmt.Errorf("build %s: %w: %s", name, err, &stderr)
		}
		paths[name] = strings.TrimSpace(string(out))
	}
	return paths, nil
})

// cniHost is a host with CNI plugins. What they and cnitool keep in /var/lib
// is in a directory of the host's own.
type cniHost struct {
	t       testing.TB
	ns      *lab.Namespace
	dir     string // with bin for plugins, net.d for conflists, var for /var/lib
	cnitool string

	pod          *lab.Namespace // its container
	capabilities string         // for cnitool, in JSON, or ""
	result       cniResult      // of the last add
}

func newCNIHost(t testing.TB, ns *lab.Namespace) *cniHost {
	t.Helper()
	tools, err := buildCNITools()
	if err != nil {
		t.Fatal(err)
	}
	h := &cniHost{t: t, ns: ns, dir: t.TempDir(), cnitool: tools["cnitool"]}
	for _, dir := range []string{"bin", "net.d", "var"} {
		if err := os.Mkdir(h.path(dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	plugins := map[string]string{"weft-cni": cniPath, "flannel": "weft-cni"}
	for name, path := range tools {
		plugins[name] = path
	}
	for name, path := range plugins {
		if err := os.Symlink(path, h.path("bin/"+name)); err != nil {
			t.Fatal(err)
		}
	}
	return h
}

func (h *cniHost) path(name string) string { return filepath.Join(h.dir, name) }

// sample installs a conflist of configs/cni, with another subnet file.
func (h *cniHost) sample(name, subnetFile string) {
	h.t.Helper()
	b, err := os.ReadFile("../../configs/cni/" + name)
	if err != nil {
		h.t.Fatal(err)
	}
	before := `"type": "weft-cni",`
	text := strings.Replace(string(b), before, fmt.Sprintf(`%s "subnetFile": %q,`, before, subnetFile), 1)
	if !strings.Contains(text, subnetFile) {
		h.t.Fatalf("%s has no line %s", name, before)
	}
	h.conflist(text)
}

// conflist installs the host's only conflist.
func (h *cniHost) conflist(text string) {
	h.t.Helper()
	if err := os.WriteFile(h.path("net.d/10-weft.conflist"), []byte(text), 0o644); err != nil {
		h.t.Fatal(err)
	}
}

// run runs a program on the host and returns what it printed; the error holds
// what went to stderr.
func (h *cniHost) run(env []string, stdin, name string, args ...string) (string, error) {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(h.t.Context(), time.Minute)
	defer cancel()
	var stdout, stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, "sh", append([]string{"-c", `mount --bind "$0" /var/lib && exec "$@"`, h.path("var"), name}, args...)...)
	cmd.Env = append(os.Environ(), "CNI_PATH="+h.path("bin"), "NETCONFPATH="+h.path("net.d"))
	cmd.Env = append(cmd.Env, env...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &stdout, &stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
	if err := h.ns.Start(cmd); err != nil {
		return "", err
	}
	err := cmd.Wait()
	if err != nil {
		err = fmt.Errorf("%s %v in %s: %w: %s", filepath.Base(name), args, h.ns.Name, err, stderr.String())
	}
	return stdout.String(), err
}

// tool runs cnitool for the network weft and the host's container, with
// variables ("KEY=value") added to the environment.
func (h *cniHost) tool(verb string, env ...string) (string, error) {
	h.t.Helper()
	env = append([]string{"CAP_ARGS=" + h.capabilities}, env...)
	return h.run(env, "", h.cnitool, verb, "weft", "/run/netns/"+h.pod.Name)
}

// plugin calls weft-cni as a runtime does, for a container's eth0 or what else
// is in env. The container's namespace is gone if the host has no pod.
func (h *cniHost) plugin(verb, container, conf string, env ...string) (string, error) {
	h.t.Helper()
	env = append([]string{"CNI_COMMAND=" + verb, "CNI_CONTAINERID=" + container, "CNI_IFNAME=eth0"}, env...)
	if h.pod != nil {
		env = append(env, "CNI_NETNS=/run/netns/"+h.pod.Name)
	}
	return h.run(env, conf, h.path("bin/weft-cni"))
}

// cniResult is what a test needs of ADD's result.
type cniResult struct {
	CNIVersion string `json:"cniVersion"`
	IPs        []struct {
		Address netip.Prefix `json:"address"`
	} `json:"ips"`
}

// addr is the container's address of a family.
func (r cniResult) addr(is func(netip.Addr) bool) netip.Addr {
	for _, ip := range r.IPs {
		if is(ip.Address.Addr()) {
			return ip.Address.Addr()
		}
	}
	return netip.Addr{}
}

func (r cniResult) ipv4() netip.Addr { return r.addr(netip.Addr.Is4) }
func (r cniResult) ipv6() netip.Addr { return r.addr(netip.Addr.Is6) }

// add attaches the host's container, and del detaches it.
func (h *cniHost) add() {
	h.t.Helper()
	out, err := h.tool("add")
	if err != nil {
		h.t.Fatalf("%v\n%s", err, out)
	}
	h.result = cniResult{}
	if err := json.Unmarshal([]byte(out), &h.result); err != nil {
		h.t.Fatalf("%v in %s", err, out)
	}
}

func (h *cniHost) del() {
	h.t.Helper()
	if out, err := h.tool("del"); err != nil {
		h.t.Fatalf("%v\n%s", err, out)
	}
}

// wantNothingLeft looks for what attachments leave on the host beside the
// bridge: addresses, kept configurations, libcni's results, and devices.
func (h *cniHost) wantNothingLeft() {
	h.t.Helper()
	var all []string
	for _, pattern := range []string{"cni/networks/*/*[.:]*", "cni/flannel/*", "cni/results/*"} {
		files, err := filepath.Glob(filepath.Join(h.path("var"), pattern))
		if err != nil {
			h.t.Fatal(err)
		}
		for _, f := range files {
			if !strings.HasPrefix(filepath.Base(f), "last_reserved_ip.") {
				all = append(all, f)
			}
		}
	}
	for _, i := range interfaces(h.t, h.ns) {
		if strings.HasPrefix(i.Name, "veth") || strings.HasPrefix(i.Name, "bwp") {
			all = append(all, i.Name)
		}
	}
	if len(all) > 0 {
		h.t.Errorf("in %s there is still %s", h.ns.Name, all)
	}
}

// interfaces lists a namespace's network devices.
func interfaces(t testing.TB, ns *lab.Namespace) (all []net.Interface) {
	t.Helper()
	err := ns.Do(func() (err error) {
		all, err = net.Interfaces()
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}
