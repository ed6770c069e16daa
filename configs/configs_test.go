package configs_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/weftnet/weft/subnet"
)

func TestSampleNetworkConfigsAreValid(t *testing.T) {
	files, err := filepath.Glob("network/*.json")
	if err != nil || len(files) == 0 {
		t.Fatalf("no samples found: %v", err)
	}
	for _, file := range files {
		raw, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := subnet.ParseConfig(raw); err != nil {
			t.Errorf("%s: %v", file, err)
		}
	}
}
