package magicfolder

import "errors"

func mkfifo(string) error { return errors.New("Windows has none") }

func mkdevice(string) error { return errors.New("Windows has none") }
