package main

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// A range set aside for documentation, which no bridge of this machine has.
const dockerSubnetFile = `FLANNEL_NETWORK=203.0.113.0/24
FLANNEL_SUBNET=203.0.113.65/26
FLANNEL_MTU=1472
FLANNEL_IPMASQ=true
`

// dockerFiles makes a directory with a subnet file, and returns the flags that
// name it and a socket where no Docker answers.
func dockerFiles(t *testing.T, subnetFile string) (dir string, flags []string) {
	t.Helper()
	dir = t.TempDir()
	write(t, filepath.Join(dir, "subnet.env"), subnetFile, 0o644)
	return dir, []string{"--subnet-file=" + filepath.Join(dir, "subnet.env"), "--docker-socket=" + filepath.Join(dir, "docker.sock")}
}

func write(t *testing.T, path, text string, mode os.FileMode) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// The file is changed where it lies, and keeps its mode, its owner and its other
// keys.
func TestDockerOptsDaemonJSON(t *testing.T) {
	dir, flags := dockerFiles(t, dockerSubnetFile)
	file, link := filepath.Join(dir, "kept-elsewhere.json"), filepath.Join(dir, "daemon.json")
	write(t, file, `{"debug": true, "mtu": 1500}`, 0o600)
	if err := os.Symlink(file, link); err != nil {
		t.Fatal(err)
	}
	owner := os.Geteuid()
	if owner == 0 { // only root can give files away
		owner = 65534
		if err := os.Chown(file, owner, owner); err != nil {
			t.Fatal(err)
		}
	}
	const want = `{
  "debug": true,
  "mtu": 1472,
  "bip": "203.0.113.65/26",
  "ip-masq": false
}
`
	for i, says := range []string{
		"changed " + file + ":\n  \"bip\": \"203.0.113.65/26\"\n  \"mtu\": 1472 instead of 1500\n  \"ip-masq\": false\n",
		"", // nothing to change
	} {
		status, stdout, stderr := run(t, append([]string{"docker-opts", "--daemon-json=" + link}, flags...)...)
		says += "docker0 does not have 203.0.113.65/26 yet: start Docker anew (systemctl restart docker)\n"
		if status != 0 || stdout != says || stderr != "" {
			t.Errorf("run %d: status %d, stdout %q, stderr %q; want %q", i+1, status, stdout, stderr, says)
		}
		if got := read(t, file); got != want {
			t.Errorf("run %d: the file is\n%s\nwant\n%s", i+1, got, want)
		}
	}
	info, err := os.Lstat(file)
	if err != nil || info.Mode() != 0o600 {
		t.Errorf("mode %v, %v; want 0600", info.Mode(), err)
	}
	if uid := info.Sys().(*syscall.Stat_t).Uid; int(uid) != owner {
		t.Errorf("owner %d, want %d", uid, owner)
	}
	if info, err := os.Lstat(link); err != nil || info.Mode()&os.ModeSymlink == 0 {
		t.Errorf("the link is gone: %v, %v", info.Mode(), err)
	}
}

func TestDockerOptsVariables(t *testing.T) {
	dir, flags := dockerFiles(t, dockerSubnetFile)
	file := filepath.Join(dir, "run", "docker_opts.env")
	t.Setenv("OPTIONS", "--debug")
	args := append([]string{"docker-opts", "-d", file, "-c", "-k", "OPTIONS"}, flags...)
	for i, says := range []string{"wrote " + file + "\ndocker0 does not have", "docker0 does not have"} {
		status, stdout, stderr := run(t, args...)
		if status != 0 || !strings.HasPrefix(stdout, says) || stderr != "" {
			t.Errorf("run %d: status %d, stdout %q, stderr %q; want %q", i+1, status, stdout, stderr, says)
		}
	}
	const want = "OPTIONS=\"--debug --bip=203.0.113.65/26 --ip-masq=false --mtu=1472\"\n"
	if got := read(t, file); got != want {
		t.Errorf("the file is %q, want %q", got, want)
	}
}

// Without weftd's masquerade containers must have Docker's, and that has a price.
func TestDockerOptsWithoutMasquerade(t *testing.T) {
	dir, flags := dockerFiles(t, strings.Replace(dockerSubnetFile, "true", "false", 1))
	file := filepath.Join(dir, "daemon.json")
	status, _, stderr := run(t, append([]string{"docker-opts", "--daemon-json=" + file}, flags...)...)
	if status != 0 || !strings.Contains(stderr, "without --ip-masq") || !strings.Contains(read(t, file), `"ip-masq": true`) {
		t.Errorf("status %d, stderr %q, file %s", status, stderr, read(t, file))
	}
}

func TestDockerCommandsRefuse(t *testing.T) {
	dir, flags := dockerFiles(t, dockerSubnetFile)
	subnet, socket := flags[0], flags[1]
	conflict := filepath.Join(dir, "conflict.json")
	write(t, conflict, `{"bip": "172.26.0.1/16"}`, 0o644)
	missing := "--subnet-file=" + filepath.Join(dir, "none.env")
	dangling := filepath.Join(dir, "dangling.json")
	if err := os.Symlink("nowhere.json", dangling); err != nil {
		t.Fatal(err)
	}
	malformed := filepath.Join(dir, "malformed.env")
	write(t, malformed, "FLANNEL_SUBNET", 0o644)
	for _, c := range []struct {
		args   []string
		status int
		says   string
	}{
		{[]string{"docker-opts", missing}, 1, "none.env is not there: weftd writes it"},
		{[]string{"docker-opts", "-f", malformed, socket}, 1, "malformed.env: line 1"},
		{[]string{"docker-opts", "--daemon-json=x", "-i", subnet, socket}, 2, "--daemon-json goes without -d"},
		{[]string{"docker-opts", "--daemon-json=" + dangling, subnet, socket}, 1, "dangling.json is a link to a file that is not there"},
		{[]string{"docker-opts", "-k", "A B", subnet, socket}, 2, `-k "A B"`},
		{[]string{"docker-opts", "x"}, 2, `unexpected argument "x"`},
		{[]string{"docker-opts", "--daemon-json=" + conflict, subnet, socket}, 1, conflict + " is left as it is: \"bip\" is \"172.26.0.1/16\""},
		{[]string{"docker-opts", "--daemon-json=" + dir, subnet, socket}, 1, "read Docker's configuration"},
		{[]string{"docker-network"}, 2, "the command is not complete"},
		{[]string{"docker-network", "create", "a", "b"}, 2, `unexpected argument "b"`},
		{[]string{"docker-network", "create", missing}, 1, "none.env is not there: weftd writes it"},
		{[]string{"docker-network", "create", subnet, socket}, 1, "no Docker engine answers"},
		{[]string{"docker-network", "remove", socket}, 1, "no Docker engine answers"},
	} {
		status, stdout, stderr := run(t, c.args...)
		if status != c.status || stdout != "" || !strings.Contains(stderr, c.says) {
			t.Errorf("weftd %v: status %d, stdout %q, stderr %q; want %d and %q", c.args, status, stdout, stderr, c.status, c.says)
		}
	}
	if got := read(t, conflict); got != `{"bip": "172.26.0.1/16"}` {
		t.Errorf("the file with a conflict was changed: %s", got)
	}
}
