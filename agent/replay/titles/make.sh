#!/bin/sh
# make.sh FILM SPEECH-FOLDER WORK-FOLDER: makes the titles beside it again.
# It needs ffmpeg and htlcdash, and takes minutes.
set -eu
film=$1 speech=$2 work=$3 here=$(cd "$(dirname "$0")" && pwd)
out=$work/parts
x="-v error -y -nostdin -threads 1"
v="-c:v libx264 -preset ultrafast -crf 12 -pix_fmt yuv420p -r 24 -video_track_timescale 12288"
a="-c:a aac -b:a 160k -ac 2 -ar 48000"
small="scale=854:480,setsar=1"
# part NAME FILTER START SECONDS: a piece of the film, changed
part() {
	ffmpeg $x -ss "$3" -i "$film" -t "$4" -vf "$2,fps=24,$small" $v $a "$out/$1.mp4"
}
# talk NAME SECONDS-INTO-THE-FILM CLIP...: clips over a picture that hardly moves
talk() {
	name=$1 at=$2
	shift 2
	for f in "$@"; do echo "file '$f'"; done > "$out/$name.txt"
	ffmpeg $x -f concat -safe 0 -i "$out/$name.txt" -c:a flac "$out/$name.flac"
	ffmpeg $x -ss "$at" -i "$film" -frames:v 1 "$out/$name.png"
	ffmpeg $x -loop 1 -framerate 24 -i "$out/$name.png" -i "$out/$name.flac" -shortest \
		-vf "scale=1920:1080,crop=1760:990:x='80+40*sin(t/9)':y='45+20*cos(t/7)',$small" $v $a "$out/$name.mp4"
}
join() {
	name=$1
	shift
	for p in "$@"; do echo "file '$out/$p.mp4'"; done > "$out/$name.txt"
	ffmpeg $x -f concat -safe 0 -i "$out/$name.txt" -c copy "$out/$name.mp4"
}
mkdir -p "$out"
part bright null 0 30
part dark "eq=gamma=0.35" 0 30
part still "select=eq(n\,0),loop=-1:1:0,setpts=N/24/TB" 12 20
talk talk 20 "$speech"/*.flac
join mix bright dark still talk
ffmpeg $x -i "$out/talk.flac" -c copy "$out/speech.flac"

# a longer programme: cuts of one to ten seconds, near and far, dark and bright, slow and fast
part p1 "crop=iw/2:ih/2" 0 18
part p2 "hflip" 14 11
part p3 "eq=gamma=0.4:saturation=0.5" 5 25
part p4 "crop=iw/3:ih/3:iw/3:ih/3,eq=brightness=0.05" 10 17
part p5 "setpts=3*PTS" 3 30
part p6 "gblur=sigma=6" 8 14
part p7 "eq=gamma=0.25" 18 12
part p8 "setpts=0.5*PTS" 0 15
part p9 "noise=alls=12:allf=t" 2 13
part p10 "crop=iw/2:ih/2:iw/2:0,hflip" 6 24
join programme p5 p1 p3 p9 p2 p6 bright p7 p8 p4 talk p10 p3 dark

# the titles are priced in different ways, and their keys open one segment or several
publish() {
	name=$1
	shift
	htlcdash publish "$@" --name "$name" --force --key "$work/publisher.key" --titles-folder "$work/titles"
}
publish film "$film" --segment-seconds 2 --group none --per-megabyte "20 sat" --floor "100 msat" --rungs "720p=1.5"
publish mix "$out/mix.mp4" --segment-seconds 2 --per-megabyte "20 sat" --rungs "360p=1.2,480p=1.6,audio=6 msat/s"
publish programme "$out/programme.mp4" --segment-seconds 2 --group none --per-megabyte "30 sat" --floor "100 msat" --rungs "240p=0.8,480p=1.5,audio=20 msat/s"
publish speech "$out/speech.flac" --segment-seconds 4 --per-megabyte "50 sat" --group 8s --rungs "audio-64k=0.3"
for name in film mix programme speech; do
	htlcdash simulate "$work/titles/$name" --export "$here"
done
