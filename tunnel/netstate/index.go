package netstate

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// IndexBySocket finds the index of a link in the network namespace that a socket
// was opened in, whichever that of the calling thread is.
func IndexBySocket(fd int, link string) (index int, err error) {
	ifr, err := unix.NewIfreq(link)
	if err == nil {
		err = unix.IoctlIfreq(fd, unix.SIOCGIFINDEX, ifr)
	}
	if err != nil {
		return 0, fmt.Errorf("find %s: %w", link, err)
	}
	return int(ifr.Uint32()), nil
}
