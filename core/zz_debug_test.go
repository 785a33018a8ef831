package core

import "bursar/ent"

func (db *DB) ReadEnt() *ent.Client { return db.readEnt }
