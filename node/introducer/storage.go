package introducer

import "warren/node/furl"

// Storage is the service name of storage servers.
const Storage = "storage"

// StorageAnnouncement is what a storage server publishes, as Tahoe 1.20 makes it.
// nurls are only those that others can reach: a Tahoe client that sees one never
// falls back to Foolscap. The FURL goes in even if the server speaks HTTPS only;
// its tub id seeds lease secrets. permutationSeed is the content of the node's
// permutation-seed file.
func StorageAnnouncement(f furl.FURL, nurls []furl.NURL, permutationSeed string) map[string]any {
	values := map[string]any{
		"anonymous-storage-FURL":  f.Text(),
		"permutation-seed-base32": permutationSeed,
	}
	if len(nurls) > 0 {
		list := make([]any, len(nurls))
		for i, n := range nurls {
			list[i] = n.Text()
		}
		values["anonymous-storage-NURLs"] = list
	}
	return values
}
