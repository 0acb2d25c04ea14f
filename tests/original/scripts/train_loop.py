"""Train in a loop of one's own on data/, and write weights as the original does."""

import argparse
import logging
from pathlib import Path

import torch
from torch import nn, optim
from torch.nn import functional as F
from torch.utils.data import DataLoader, random_split

from evaluate import evaluate
from unet import UNet
from utils.data_loading import BasicDataset, CarvanaDataset
from utils.dice_score import dice_loss

parser = argparse.ArgumentParser()
parser.add_argument('--workers', type=int, default=0)
args = parser.parse_args()

logging.basicConfig(level=logging.INFO, format='%(levelname)s: %(message)s')
device = torch.device('cuda' if torch.cuda.is_available() else 'cpu')
torch.manual_seed(0)
model = UNet(n_channels=3, n_classes=2, bilinear=True).to(memory_format=torch.channels_last)
model.use_checkpointing()
model.to(device=device)
logging.info(f'{model.n_channels} channels, {model.n_classes} classes, {model.bilinear}')

try:
    dataset = CarvanaDataset('data/imgs', 'data/masks', 0.5)
except (AssertionError, RuntimeError, IndexError):
    dataset = BasicDataset('data/imgs', 'data/masks', 0.5)

n_val = int(len(dataset) * 0.4)
train_set, val_set = random_split(
    dataset, [len(dataset) - n_val, n_val], generator=torch.Generator().manual_seed(0)
)
settings = {'batch_size': 1, 'num_workers': args.workers, 'pin_memory': False}
train_loader = DataLoader(train_set, shuffle=True, **settings)
val_loader = DataLoader(val_set, shuffle=False, drop_last=True, **settings)

optimizer = optim.RMSprop(
    model.parameters(), lr=1e-5, weight_decay=1e-8, momentum=0.999, foreach=True
)
scheduler = optim.lr_scheduler.ReduceLROnPlateau(optimizer, 'max', patience=5)
scaler = torch.amp.GradScaler(device.type, enabled=False)
criterion = nn.CrossEntropyLoss()

model.train()
for batch in train_loader:
    images, true_masks = batch['image'], batch['mask']
    assert images.shape[1] == model.n_channels
    images = images.to(device=device, dtype=torch.float32, memory_format=torch.channels_last)
    true_masks = true_masks.to(device=device, dtype=torch.long)
    with torch.autocast(device.type, enabled=False):
        masks_pred = model(images)
        loss = criterion(masks_pred, true_masks)
        loss += dice_loss(
            F.softmax(masks_pred, dim=1).float(),
            F.one_hot(true_masks, model.n_classes).permute(0, 3, 1, 2).float(),
            multiclass=True,
        )
    optimizer.zero_grad(set_to_none=True)
    scaler.scale(loss).backward()
    scaler.unscale_(optimizer)
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    scaler.step(optimizer)
    scaler.update()

val_score = evaluate(model, val_loader, device, False)
scheduler.step(val_score)
logging.info(f'Validation Dice score: {val_score}')
assert model.training

state_dict = model.state_dict()
state_dict['mask_values'] = dataset.mask_values
Path('checkpoints').mkdir(parents=True, exist_ok=True)
torch.save(state_dict, 'checkpoints/checkpoint_epoch1.pth')
