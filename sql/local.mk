# SQL files
