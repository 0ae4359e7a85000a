//go:build race

package magicfolder

const underRace = true
