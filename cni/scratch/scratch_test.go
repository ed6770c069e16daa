package scratch

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

func TestSaveLoadRemove(t *testing.T) {
	s := Store{filepath.Join(t.TempDir(), "cni", "flannel")}
	a := Attachment{"c-1", "eth0"}
	if _, err := s.Load(a); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("load before save: error %v", err)
	}
	if all, err := s.List(); err != nil || len(all) != 0 {
		t.Errorf("no folder lists %v, error %v", all, err)
	}
	if err := s.Remove(a); err != nil {
		t.Errorf("remove before save: %v", err)
	}
	for _, conf := range []string{"first", "second, longer"} {
		if err := s.Save(a, []byte(conf)); err != nil {
			t.Fatal(err)
		}
		if got, err := s.Load(a); err != nil || string(got) != conf {
			t.Errorf("loaded %q, error %v; want %q", got, err, conf)
		}
	}
	for path, mode := range map[string]fs.FileMode{s.Dir: 0o700 | fs.ModeDir, s.own(a): 0o600} {
		if st, err := os.Stat(path); err != nil || st.Mode() != mode {
			t.Errorf("%s: mode %v, error %v; want %v", path, st.Mode(), err, mode)
		}
	}
	for range 2 {
		if err := s.Remove(a); err != nil {
			t.Error(err)
		}
	}
	wantFiles(t, s)
}

func TestTwoInterfaces(t *testing.T) {
	s := Store{t.TempDir()}
	first, second := Attachment{"c1", "eth0"}, Attachment{"c1", "eth1"}
	save(t, s, first, "conf0")
	save(t, s, second, "conf1")
	save(t, s, Attachment{"c1-eth0", "eth1"}, "another container's")
	wantFiles(t, s, "c1", "c1-eth0", "c1-eth0@eth1", "c1@eth0", "c1@eth1")
	all, err := s.List()
	if want := []Attachment{{"c1-eth0", "eth1"}, first, second}; err != nil || !reflect.DeepEqual(all, want) {
		t.Errorf("listed %v, error %v; want %v", all, err, want)
	}
	if got, err := s.Load(second); err != nil || string(got) != "conf1" {
		t.Errorf("loaded %q, error %v", got, err)
	}
	// The second name is the first interface's, and no other one's.
	if got, err := s.LoadFlannels(Attachment{"c1", "eth2"}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("loaded %q for an interface that is not there, error %v", got, err)
	}
	remove(t, s, first)
	remove(t, s, first) // a repeated DEL leaves the other interface alone
	wantFiles(t, s, "c1-eth0", "c1-eth0@eth1", "c1@eth1")
	remove(t, s, second)
	wantFiles(t, s, "c1-eth0", "c1-eth0@eth1")
}

// What flannel's plugin left is found and removed by weft's.
func TestFromFlannel(t *testing.T) {
	s := Store{t.TempDir()}
	write(t, s, "c1", "flannel's")
	all, err := s.List()
	if want := []Attachment{{"c1", ""}}; err != nil || !reflect.DeepEqual(all, want) {
		t.Errorf("listed %v, error %v; want %v", all, err, want)
	}
	a := Attachment{"c1", "eth0"}
	if got, err := s.Load(a); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("loaded %q as weft's, error %v", got, err)
	}
	if got, err := s.LoadFlannels(a); err != nil || string(got) != "flannel's" {
		t.Errorf("loaded %q, error %v", got, err)
	}
	if got, err := s.Load(Attachment{"c1", ""}); err != nil || string(got) != "flannel's" {
		t.Errorf("loaded what was listed: %q, error %v", got, err)
	}
	// An interface added since has a file of its own and takes only that away.
	save(t, s, Attachment{"c1", "eth1"}, "weft's")
	if got, err := s.LoadFlannels(a); err != nil || string(got) != "flannel's" {
		t.Errorf("beside weft's, loaded %q, error %v", got, err)
	}
	remove(t, s, Attachment{"c1", "eth1"})
	wantFiles(t, s, "c1")
	remove(t, s, a)
	wantFiles(t, s)
}

// What weft left is found by flannel's plugin, which reads <container> and
// removes it; weft does not miss it.
func TestBackToFlannel(t *testing.T) {
	s := Store{t.TempDir()}
	a := Attachment{"c1", "eth0"}
	save(t, s, a, "conf")
	path := filepath.Join(s.Dir, "c1")
	if got, err := os.ReadFile(path); err != nil || string(got) != "conf" {
		t.Errorf("flannel's plugin finds %q, error %v", got, err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	all, err := s.List()
	if want := []Attachment{a}; err != nil || !reflect.DeepEqual(all, want) {
		t.Errorf("listed %v, error %v; want %v", all, err, want)
	}
	remove(t, s, a)
	wantFiles(t, s)
}

func TestNamesThatLeadElsewhere(t *testing.T) {
	dir := t.TempDir()
	s := Store{filepath.Join(dir, "store")}
	save(t, s, Attachment{"c1", "eth0"}, "conf")
	outside := filepath.Join(dir, "outside")
	if err := os.WriteFile(outside, []byte("not ours"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, a := range []Attachment{
		{"", "eth0"}, {".", "eth0"}, {"..", "eth0"}, {"../outside", "eth0"}, {"../outside", ""}, {"/etc/passwd", "eth0"}, {"a/b", "eth0"},
		{"c1@eth0", ""}, {"c1", "../../outside"}, {"c1", ".."}, {"c1", "eth 0"}, {"c1", "averyveryverylongname"}, {"c1\x00", "eth0"},
	} {
		if err := s.Save(a, []byte("x")); err == nil {
			t.Errorf("%q was saved", a)
		}
		if got, err := s.Load(a); err == nil {
			t.Errorf("%q was loaded: %q", a, got)
		}
		if got, err := s.LoadFlannels(Attachment{a.ContainerID, "eth1"}); err == nil {
			t.Errorf("%q was loaded: %q", a, got)
		}
		if err := s.Remove(a); err == nil {
			t.Errorf("%q was removed", a)
		}
	}
	if b, err := os.ReadFile(outside); err != nil || string(b) != "not ours" {
		t.Errorf("the file outside holds %q, error %v", b, err)
	}
	wantFiles(t, s, "c1", "c1@eth0")

	long := Attachment{strings.Repeat("a", 300), "eth0"}
	if err := s.Save(long, nil); err == nil {
		t.Error("a name longer than the file system allows was saved")
	}
}

// Whatever else lies in the folder is not ours.
func TestListLeavesOut(t *testing.T) {
	s := Store{t.TempDir()}
	for _, name := range []string{".c1@eth0.123", "c1@", "@eth0", "c1@eth 0", "_x"} {
		write(t, s, name, "x")
	}
	if err := os.Mkdir(filepath.Join(s.Dir, "networks"), 0o755); err != nil {
		t.Fatal(err)
	}
	write(t, s, "c2", "x")
	all, err := s.List()
	if want := []Attachment{{"c2", ""}}; err != nil || !reflect.DeepEqual(all, want) {
		t.Errorf("listed %v, error %v; want %v", all, err, want)
	}
}

// No name makes a file outside the folder, and what can be saved is listed.
func FuzzNames(f *testing.F) {
	f.Add("c1", "eth0")
	f.Add("../x", "..")
	f.Add("a@b", "c@d")
	f.Fuzz(func(t *testing.T, id, ifName string) {
		dir := t.TempDir()
		s := Store{filepath.Join(dir, "store")}
		a := Attachment{id, ifName}
		saved := s.Save(a, []byte("conf")) == nil
		entries, err := os.ReadDir(dir)
		if err != nil || len(entries) > 1 {
			t.Fatalf("%q made %v, error %v", a, entries, err)
		}
		all, err := s.List()
		if err != nil || saved != (len(all) == 1) || saved && all[0] != a {
			t.Fatalf("%q was saved: %v; listed %q, error %v", a, saved, all, err)
		}
		if saved {
			remove(t, s, a)
			wantFiles(t, s)
		}
	})
}

func save(t *testing.T, s Store, a Attachment, conf string) {
	t.Helper()
	if err := s.Save(a, []byte(conf)); err != nil {
		t.Fatal(err)
	}
}

func remove(t *testing.T, s Store, a Attachment) {
	t.Helper()
	if err := s.Remove(a); err != nil {
		t.Fatal(err)
	}
}

func write(t *testing.T, s Store, name, conf string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(s.Dir, name), []byte(conf), 0o600); err != nil {
		t.Fatal(err)
	}
}

// wantFiles checks what lies in the folder, in alphabetic order.
func wantFiles(t *testing.T, s Store, want ...string) {
	t.Helper()
	entries, err := os.ReadDir(s.Dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	var got []string
	for _, e := range entries {
		got = append(got, e.Name())
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("the folder holds %q, want %q", got, want)
	}
}
