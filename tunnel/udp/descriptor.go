package udp

import "golang.org/x/sys/unix"

// The kernel closes the files of a dead process one by one, from the highest
// descriptor down (close_files and task_work_run), and some take it 10 ms and
// more: a TUN, which is unregistered, packet sockets, and the links of the kernel
// assist, each of which waits for all CPUs (synchronize_rcu in tcx_link_release).
// What peers and routes wait for has to come first: the UDP sockets, so that they
// no longer swallow what peers send, but refuse it; then the TUN; then the links,
// so that what peers' kernels send is refused too (their probes have been by
// then). So these have descriptors higher than any other file's. Sockets that
// only send can wait.
const (
	linkDescriptors   = 800
	tunDescriptors    = 900
	socketDescriptors = 1000
)

// moveUp gives an open file another descriptor, the lowest free one from least
// up. Where a limit does not allow that, it stays as it is: it works, only
// slower when the process dies.
func moveUp(fd, least int) int {
	moved, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, least)
	if err != nil {
		return fd
	}
	unix.Close(fd)
	return moved
}
