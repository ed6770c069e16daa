package e2e

import (
	"archive/tar"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/weftnet/weft/bench/lab"
)

// By these variables the Docker cases run with another engine than the one in
// PATH: its dockerd, and what its daemon.json holds to begin with.
const (
	dockerdVariable = "WEFT_DOCKERD"
	configVariable  = "WEFT_DOCKERD_CONFIG"
)

// dockerPatience is for what dockerd does. It starts a containerd first, and
// with storage driver vfs copies the image for each container.
const dockerPatience = 60 * time.Second

// An engine is a dockerd of its own on a host, with its own containerd. The lab
// starts it in the host's network namespace alone: `ip netns exec` would also
// mount another /sys, without the cgroups that dockerd needs.
type engine struct {
	c      *cluster
	host   *lab.Host
	daemon *lab.Process
	dir    string
	socket string
	config string // daemon.json

	containers []string
}

// newEngine prepares an engine on a host and has it removed at the end of the
// test, with its containers, whose shims and mounts would outlive it otherwise.
func (c *cluster) newEngine(i int) *engine {
	c.t.Helper()
	for _, program := range []string{"dockerd", "docker", "containerd", "runc", "busybox"} {
		if _, err := exec.LookPath(program); err != nil {
			c.t.Fatalf("%v: the tests need the packages docker.io and busybox-static (.ci/packages installs them)", err)
		}
	}
	e := &engine{c: c, host: c.hosts[i], dir: filepath.Join(c.hosts[i].Dir, "docker")}
	e.socket, e.config = filepath.Join(e.dir, "docker.sock"), filepath.Join(e.dir, "daemon.json")
	if err := os.Mkdir(e.dir, 0o755); err != nil {
		c.t.Fatal(err)
	}
	if err := os.WriteFile(e.config, []byte(cmp.Or(os.Getenv(configVariable), "{}")), 0o644); err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(e.remove)
	return e
}

// start starts dockerd; ready waits until it answers.
func (e *engine) start() {
	e.c.t.Helper()
	var err error
	e.daemon, err = e.host.Run("dockerd", cmp.Or(os.Getenv(dockerdVariable), "dockerd"),
		"--config-file="+e.config, "--host=unix://"+e.socket,
		"--data-root="+filepath.Join(e.dir, "data"), "--exec-root="+filepath.Join(e.dir, "exec"),
		"--pidfile="+filepath.Join(e.dir, "docker.pid"), "--storage-driver=vfs", "--shutdown-timeout=1")
	if err != nil {
		e.c.t.Fatal(err)
	}
}

func (e *engine) ready() {
	e.c.t.Helper()
	for deadline := time.Now().Add(dockerPatience); ; time.Sleep(50 * time.Millisecond) {
		_, err := e.try("version", "--format={{.Server.Version}}")
		if err == nil {
			return
		}
		select {
		case <-e.daemon.Done():
			e.c.t.Fatalf("dockerd has ended: %s", e.daemon.LogTail(10))
		default:
		}
		if time.Now().After(deadline) {
			e.c.t.Fatalf("dockerd does not answer: %v\n%s", err, e.daemon.LogTail(10))
		}
	}
}

// stop ends dockerd, which ends its containers.
func (e *engine) stop() {
	e.c.t.Helper()
	if err := e.daemon.Signal(syscall.SIGTERM); err != nil {
		e.c.t.Fatal(err)
	}
	select {
	case <-e.daemon.Done():
	case <-time.After(dockerPatience):
		e.c.t.Fatalf("dockerd does not end: %s", e.daemon.LogTail(20))
	}
}

func (e *engine) remove() {
	if e.daemon == nil {
		return
	}
	if len(e.containers) > 0 {
		e.try(append([]string{"rm", "--force"}, e.containers...)...)
	}
	e.stop()
	if e.c.t.Failed() {
		e.c.t.Logf("the end of the log of dockerd on host%d:\n%s", e.host.Number, e.daemon.LogTail(20))
	}
}

// try runs the docker command.
func (e *engine) try(args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), dockerPatience)
	defer cancel()
	out, err := e.host.Command(ctx, "docker", append([]string{"--host=unix://" + e.socket}, args...)...)
	return strings.TrimSpace(string(out)), err
}

// docker runs the docker command, which must succeed.
func (e *engine) docker(args ...string) string {
	e.c.t.Helper()
	out, err := e.try(args...)
	if err != nil {
		e.c.t.Fatal(err)
	}
	return out
}

// makeImage makes the image "box" out of a static busybox.
func (e *engine) makeImage() {
	e.c.t.Helper()
	path, err := exec.LookPath("busybox")
	if err != nil {
		e.c.t.Fatal(err)
	}
	program, err := os.ReadFile(path)
	if err != nil {
		e.c.t.Fatal(err)
	}
	var image bytes.Buffer
	w := tar.NewWriter(&image)
	files := []tar.Header{
		{Name: "bin/", Typeflag: tar.TypeDir, Mode: 0o755},
		{Name: "bin/busybox", Typeflag: tar.TypeReg, Mode: 0o755, Size: int64(len(program))},
	}
	for _, applet := range []string{"sh", "httpd", "sleep"} {
		files = append(files, tar.Header{Name: "bin/" + applet, Typeflag: tar.TypeSymlink, Linkname: "busybox", Mode: 0o777})
	}
	for _, f := range files {
		if err := w.WriteHeader(&f); err != nil {
			e.c.t.Fatal(err)
		}
		if f.Size > 0 {
			w.Write(program) // into memory
		}
	}
	if err := w.Close(); err != nil {
		e.c.t.Fatal(err)
	}
	file := filepath.Join(e.dir, "box.tar")
	if err := os.WriteFile(file, image.Bytes(), 0o600); err != nil {
		e.c.t.Fatal(err)
	}
	e.docker("import", file, "box")
}

// serve starts a container that serves its own name by HTTP, on its port 80 and
// the host's port 8080.
func (e *engine) serve(name string, flags ...string) {
	e.c.t.Helper()
	// httpd takes no notice of SIGTERM as the first process of its namespace.
	args := append([]string{"run", "--detach", "--name=" + name, "--publish=8080:80", "--stop-signal=KILL"}, flags...)
	e.containers = append(e.containers, name)
	e.docker(append(args, "box", "sh", "-c", "echo "+name+" >index.html; exec httpd -f -p 80")...)
}

// namespace finds a running container's namespace, and its addresses on a
// network.
func (e *engine) namespace(container, network string) *lab.Container {
	e.c.t.Helper()
	var found []struct {
		NetworkSettings struct {
			SandboxKey string
			Networks   map[string]struct{ IPAddress, GlobalIPv6Address string }
		}
	}
	if err := json.Unmarshal([]byte(e.docker("inspect", container)), &found); err != nil || len(found) != 1 {
		e.c.t.Fatalf("docker inspect %s: %v", container, err)
	}
	settings := found[0].NetworkSettings
	addrs := settings.Networks[network]
	ct := &lab.Container{Namespace: &lab.Namespace{Name: fmt.Sprintf("%s-%s", e.c.Name, filepath.Base(settings.SandboxKey))}}
	var err error
	if ct.IPv4, err = netip.ParseAddr(addrs.IPAddress); err != nil {
		e.c.t.Fatalf("container %s on network %s: %v", container, network, err)
	}
	if addrs.GlobalIPv6Address != "" {
		ct.IPv6 = netip.MustParseAddr(addrs.GlobalIPv6Address)
	}
	// Docker keeps its namespaces elsewhere than `ip netns`.
	link := "/run/netns/" + ct.Name
	if err := os.Symlink(settings.SandboxKey, link); err == nil {
		e.c.t.Cleanup(func() { os.Remove(link) })
	} else if !os.IsExist(err) {
		e.c.t.Fatal(err)
	}
	return ct
}
