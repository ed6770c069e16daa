package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// Machine is a host with systemd running on it: a container of systemd-nspawn
// in the host's network namespace. Its files are those of this machine, but
// what it writes stays its own, and outlives a reboot; it starts without any
// service of this machine's.
type Machine struct {
	*Process
	Host *Host
}

// boot runs as the first process of a PID and mount namespace, with the
// arguments NETNS NAME DIR SHARED. All mounts and processes go with it.
//
// The upper layer lies in a tmpfs, since it may not lie in the lower one, which
// is everything here. With --keep-unit nspawn leaves a reboot to its caller, and
// ends with 133.
const boot = `
set -e
for procs in /sys/fs/cgroup/"$2"/cgroup.procs /sys/fs/cgroup/*/"$2"/cgroup.procs; do
	[ ! -e "$procs" ] || echo 0 > "$procs"
done
mkdir -p "$3" /run/systemd/nspawn
mount -t tmpfs -o mode=0755 tmpfs /run/systemd/nspawn
mount -t tmpfs -o mode=0755 tmpfs "$3"
mkdir "$3/upper" "$3/work" "$3/tree"
mount -t overlay -o "lowerdir=/,upperdir=$3/upper,workdir=$3/work" overlay "$3/tree"
rm -rf "$3/tree/etc/systemd/system"
mkdir "$3/tree/etc/systemd/system"
export SYSTEMD_NSPAWN_API_VFS_WRITABLE=network SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=1
while :; do
	status=0
	systemd-nspawn --quiet --register=no --keep-unit --link-journal=no --console=pipe \
		--directory="$3/tree" --machine="$2" --boot --capability=CAP_NET_ADMIN,CAP_BPF --system-call-filter=bpf \
		--network-namespace-path="/run/netns/$1" --bind-ro="$4:/mnt" || status=$?
	[ "$status" = 133 ] || exit "$status"
done
`

// Boot boots systemd on the host. The folder shared is /mnt in the machine. It
// is for the caller to Kill, which is as a power cut, before the cluster's Close:
// no signal makes unshare end in peace.
func (h *Host) Boot(shared string) (*Machine, error) {
	name := h.Namespace.Name
	if err := makeCgroups(name); err != nil {
		return nil, err
	}
	p, err := h.Run("machine", "unshare", "--mount", "--propagation=private", "--pid", "--mount-proc", "--fork", "--kill-child=KILL",
		"sh", "-c", boot, "boot", name, name, filepath.Join(h.Dir, "machine"), shared)
	if err != nil {
		return nil, err
	}
	return &Machine{Process: p, Host: h}, nil
}

// Command runs a program in the machine to its end and returns what it wrote to
// stdout. The error, if its exit status is not 0, holds what it wrote to stderr.
func (m *Machine) Command(ctx context.Context, name string, args ...string) ([]byte, error) {
	leader, err := m.leader()
	if err != nil {
		return nil, err
	}
	enter := []string{"--target", strconv.Itoa(leader), "--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup", "--root", "--wd", "--", name}
	cmd := exec.CommandContext(ctx, "nsenter", append(enter, args...)...)
	cmd.Env = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "DEBIAN_FRONTEND=noninteractive", "LC_ALL=C.UTF-8"}
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return stdout.Bytes(), fmt.Errorf("%s %s on %s: %w: %s", name, strings.Join(args, " "), m.Host.Namespace.Name, err, bytes.TrimSpace(stderr.Bytes()))
	}
	return stdout.Bytes(), nil
}

// WaitBooted waits until systemd has started what it starts.
func (m *Machine) WaitBooted(ctx context.Context) error {
	for {
		state, err := m.Command(ctx, "systemctl", "is-system-running")
		if text := string(bytes.TrimSpace(state)); text == "running" || text == "degraded" {
			return nil
		}
		select {
		case <-m.Done():
			return fmt.Errorf("machine on %s ended (%v):\n%s", m.Host.Namespace.Name, m.Err(), m.LogTail(20))
		case <-ctx.Done():
			return fmt.Errorf("machine on %s does not boot: %w (%q, %w)\n%s", m.Host.Namespace.Name, ctx.Err(), state, err, m.LogTail(20))
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// BootID tells one boot of the machine from the next.
func (m *Machine) BootID(ctx context.Context) (string, error) {
	id, err := m.Command(ctx, "cat", "/proc/sys/kernel/random/boot_id")
	return string(bytes.TrimSpace(id)), err
}

// Written lists what was written to the machine's file system, apart from /run
// and /tmp, since its first boot: files and directories that are there now.
func (m *Machine) Written() ([]string, error) {
	pid, err := m.descendant(1)
	if err != nil {
		return nil, err
	}
	// Only the processes of the machine see the mount.
	upper := filepath.Join(fmt.Sprintf("/proc/%d/root", pid), m.Host.Dir, "machine", "upper")
	var paths []string
	err = filepath.WalkDir(upper, func(path string, entry fs.DirEntry, err error) error {
		deleted := err == nil && entry.Type()&fs.ModeCharDevice != 0 // a whiteout of overlayfs
		if err == nil && !deleted {
			paths = append(paths, strings.TrimPrefix(path, upper))
		}
		return err
	})
	return paths, err
}

// leader finds the machine's first process: unshare's child is boot, and below
// that are nspawn and the machine's systemd.
func (m *Machine) leader() (int, error) {
	pid, err := m.descendant(3)
	if err != nil {
		return 0, err
	}
	// On its way to become the machine's systemd that process is on this side.
	comm, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
	if err != nil || string(comm) != "systemd\n" {
		return 0, fmt.Errorf("systemd has not begun on %s: %q, %w", m.Host.Namespace.Name, comm, err)
	}
	return pid, nil
}

// descendant finds a child of the machine's process, or a child's child.
func (m *Machine) descendant(generations int) (int, error) {
	pid := m.PID()
	for range generations {
		children, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
		if err == nil {
			first, _, _ := strings.Cut(string(children), " ")
			pid, err = strconv.Atoi(first)
		}
		if err != nil {
			return 0, fmt.Errorf("the machine on %s does not run now: %w", m.Host.Namespace.Name, err)
		}
	}
	return pid, nil
}

// cgroupRoots are the hierarchies that systemd sorts its processes in: the
// unified one, wherever that is mounted, and the older one beside it.
func cgroupRoots() []string {
	if _, err := os.Stat("/sys/fs/cgroup/cgroup.procs"); err == nil {
		return []string{"/sys/fs/cgroup"}
	}
	return []string{"/sys/fs/cgroup/unified", "/sys/fs/cgroup/systemd"}
}

// makeCgroups makes cgroups of a machine's own: two machines in one would take
// each other's processes for theirs.
func makeCgroups(name string) error {
	for _, root := range cgroupRoots() {
		if err := os.Mkdir(filepath.Join(root, name), 0o755); err != nil && !errors.Is(err, os.ErrExist) {
			return fmt.Errorf("make a cgroup for the machine: %w", err)
		}
	}
	return nil
}

// removeCgroups removes the cgroups of the run's machines, which have ended.
func (r *run) removeCgroups() (errs []error) {
	for _, root := range cgroupRoots() {
		dirs, err := filepath.Glob(filepath.Join(root, r.name+"-host*"))
		errs = append(errs, err)
		for _, dir := range dirs {
			errs = append(errs, removeCgroup(dir))
		}
	}
	return errs
}

func removeCgroup(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.IsDir() {
			if err := removeCgroup(filepath.Join(dir, e.Name())); err != nil {
				return err
			}
		}
	}
	for deadline := time.Now().Add(StopGrace); ; time.Sleep(10 * time.Millisecond) {
		// Processes that were killed may take a moment to be gone.
		if err = os.Remove(dir); err == nil || errors.Is(err, os.ErrNotExist) || time.Now().After(deadline) {
			return err
		}
	}
}
