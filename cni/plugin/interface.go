package plugin

import (
	"fmt"
	"net"
	"runtime"
	"slices"

	"github.com/vishvananda/netns"
)

// interfaceExists looks into the network namespace at a path.
func interfaceExists(path, name string) (bool, error) {
	namespace, err := netns.GetFromPath(path)
	if err != nil {
		return false, fmt.Errorf("open %s: %w", path, err)
	}
	defer namespace.Close()
	var exists bool
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		done <- func() error {
			if err := netns.Set(namespace); err != nil {
				return fmt.Errorf("enter %s: %w", path, err)
			}
			all, err := net.Interfaces()
			exists = slices.ContainsFunc(all, func(i net.Interface) bool { return i.Name == name })
			return err
		}()
	}()
	err = <-done
	return exists, err
}
