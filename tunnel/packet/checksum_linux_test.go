package packet

import (
	"syscall"
	"testing"
)

// No variant reads outside of what it sums, not even to throw it away: the
// bytes before and behind may be of a page that is not there.
func TestSumStaysInside(t *testing.T) {
	page := syscall.Getpagesize()
	mem, err := syscall.Mmap(-1, 0, 3*page, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_ANON|syscall.MAP_PRIVATE)
	if err != nil {
		t.Fatalf("map three pages: %v", err)
	}
	defer syscall.Munmap(mem)
	for _, guard := range [][]byte{mem[:page], mem[2*page:]} {
		if err := syscall.Mprotect(guard, syscall.PROT_NONE); err != nil {
			t.Fatalf("make a guard page: %v", err)
		}
	}
	middle := mem[page : 2*page]
	for n := range page + 1 {
		for _, b := range [][]byte{middle[:n], middle[page-n:]} {
			checkSum(t, "zeros at a guard page", 0, b, 0x1234, 0x1234)
		}
	}
}
