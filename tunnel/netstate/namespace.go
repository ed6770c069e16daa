package netstate

import (
	"errors"
	"fmt"
	"os"
	"runtime"

	"github.com/vishvananda/netns"
)

// Namespace is a network namespace to come back to. Sockets stay in the namespace
// they were opened in, but /proc/sys/net shows that of the thread which opens a
// file, and a device is made in that of the thread which asks for it.
type Namespace struct{ file *os.File }

// OpenNamespace opens the network namespace of the calling goroutine's thread.
func OpenNamespace() (*Namespace, error) {
	file, err := os.Open(threadNamespace)
	if err != nil {
		return nil, fmt.Errorf("open network namespace: %w", err)
	}
	return &Namespace{file}, nil
}

const threadNamespace = "/proc/thread-self/ns/net"

// Do runs fn on a thread of the namespace, and waits for it. Where that is the
// process's own, as in production, it takes no privilege.
func (n *Namespace) Do(fn func() error) error {
	done := make(chan error, 1)
	go func() {
		err := errors.New("ended early") // if fn ends the goroutine
		defer func() { done <- err }()
		moved, failed := n.enter()
		if !moved {
			defer runtime.UnlockOSThread()
		} // else the thread ends with the goroutine
		if failed != nil {
			err = failed
			return
		}
		err = fn()
	}()
	return <-done
}

// enter makes the calling goroutine's thread one of the namespace. Where it is so
// already, as in production, no privilege is needed. The goroutine must end
// without unlocking its thread if moved is true.
func (n *Namespace) enter() (moved bool, err error) {
	runtime.LockOSThread()
	want, err := n.file.Stat()
	if err != nil {
		return false, fmt.Errorf("look at network namespace: %w", err)
	}
	have, err := os.Stat(threadNamespace)
	if err != nil {
		return false, fmt.Errorf("look at network namespace: %w", err)
	}
	if os.SameFile(want, have) {
		return false, nil
	}
	if err := netns.Set(netns.NsHandle(n.file.Fd())); err != nil {
		return false, fmt.Errorf("enter network namespace: %w", err)
	}
	return true, nil
}

// Close closes what OpenNamespace opened, and leaves the namespace as it is.
func (n *Namespace) Close() error { return n.file.Close() }
